"""The edge: it owns the truth, decodes in batches, and takes what hints have arrived."""

from .engine import Engine
from .server import Authenticator, EdgeServer
from .settings import EdgeSettings

__all__ = ["Authenticator", "EdgeServer", "EdgeSettings", "Engine"]
