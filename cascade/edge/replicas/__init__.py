"""Many engines behind one address.

`ReplicatedEngine` is the engine that those above see. It holds no model: its replicas do, each behind a
`Host` in a process of its own, which Ray starts, places and restarts (`on_ray.py`). What the two say to each
other is in `orders.py`, what the front knows of a text in `mirror.py`, where texts go in `placing.py`.
"""

from .engine import ReplicatedEngine
from .settings import RaySettings, ReplicaSettings

__all__ = ["RaySettings", "ReplicaSettings", "ReplicatedEngine"]
