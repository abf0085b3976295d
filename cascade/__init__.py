"""Cascade: a small model on a device and a large one on an edge server answer together.

Importing this costs milliseconds: what is heavy is imported when its name is first asked for.
"""

import typing

from .errors import (
    CascadeError,
    ContextExceeded,
    EngineError,
    LinkClosed,
    LinkError,
    LinkUnavailable,
    MemoryExceeded,
    MessageTooLong,
    ModelError,
    RefusedError,
    ReplicaLost,
    RunnerStopped,
    SettingsError,
    VirtualTimeError,
    WireError,
)

__version__ = "0.1.0"

__all__ = [
    "Answer",
    "CascadeError",
    "ContextExceeded",
    "Device",
    "EdgeServer",
    "EdgeSettings",
    "EngineError",
    "LinkClosed",
    "LinkError",
    "LinkUnavailable",
    "MemoryExceeded",
    "MessageTooLong",
    "ModelError",
    "Policy",
    "RefusedError",
    "ReplicaLost",
    "Revision",
    "RunnerStopped",
    "Sampling",
    "SettingsError",
    "Source",
    "Summary",
    "Token",
    "Verified",
    "VirtualTimeError",
    "WireError",
    "__version__",
]

_LAZY: dict[str, str] = {
    "Answer": "cascade.events",
    "Device": "cascade.device",
    "EdgeServer": "cascade.edge",
    "EdgeSettings": "cascade.edge",
    "Policy": "cascade.device",
    "Revision": "cascade.events",
    "Sampling": "cascade.decoding",
    "Source": "cascade.events",
    "Summary": "cascade.events",
    "Token": "cascade.events",
    "Verified": "cascade.events",
}
"""Public name -> module that has it, imported at first use (PEP 562).

Each such name stands in `__all__` too, and for type checkers below as `from .module import Name as Name`.
"""

if typing.TYPE_CHECKING:
    from .decoding import Sampling as Sampling
    from .device import Device as Device
    from .device import Policy as Policy
    from .edge import EdgeServer as EdgeServer
    from .edge import EdgeSettings as EdgeSettings
    from .events import Answer as Answer
    from .events import Revision as Revision
    from .events import Source as Source
    from .events import Summary as Summary
    from .events import Token as Token
    from .events import Verified as Verified
else:

    def __getattr__(name: str) -> object:
        if name not in _LAZY:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        import importlib

        value = getattr(importlib.import_module(_LAZY[name]), name)
        globals()[name] = value  # the next access does not come here
        return value


def __dir__() -> list[str]:
    return __all__
