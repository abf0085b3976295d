"""The edge: it owns the truth, decodes in batches, and takes what hints have arrived."""

from .engine import BatchEngine
from .interface import Engine, EngineStats, Text
from .server import Authenticator, EdgeServer
from .settings import EdgeSettings

__all__ = ["Authenticator", "BatchEngine", "EdgeServer", "EdgeSettings", "Engine", "EngineStats", "Text"]
