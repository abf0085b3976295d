"""The edge: it owns the truth, decodes in batches, and takes what hints have arrived."""

from .counters import Counters, Usage
from .engine import BatchEngine
from .health import Health, State
from .histogram import Histogram
from .interface import Engine, EngineStats, Text
from .quota import Quota
from .server import Authenticator, EdgeServer
from .settings import EdgeSettings
from .verify import Verdict, VerifyRequest

__all__ = [
    "Authenticator",
    "BatchEngine",
    "Counters",
    "EdgeServer",
    "EdgeSettings",
    "Engine",
    "EngineStats",
    "Health",
    "Histogram",
    "Quota",
    "State",
    "Text",
    "Usage",
    "Verdict",
    "VerifyRequest",
]
