"""vLLM as the engine: remote hints enter through its own extension point, commits stream out.

`engine.py` runs in the server, `proposer.py` in vLLM's own process, and `bridge.py` is the way between them.
vLLM and torch are imported when an engine is started, not before; `docs/engines.md` says how to install it.
"""

from .engine import VllmEngine
from .starting import VllmModel, check_installed, start

__all__ = ["VllmEngine", "VllmModel", "check_installed", "start"]
