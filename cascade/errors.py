"""Every error that Cascade raises on purpose, in one tree.

    CascadeError
    ├── SettingsError             a setting is unknown or impossible; names the field
    ├── WireError                 bytes that are no message of ours
    ├── LinkError                 the way to the other side
    │   ├── LinkClosed            it is gone; the session above may reconnect
    │   ├── LinkUnavailable       no edge could be reached at all
    │   └── MessageTooLong        longer than the link carries; the link itself is well
    ├── ModelError                a model cannot be loaded, or cannot do what was asked of it
    │   ├── ContextExceeded       the text would outgrow the model's context
    │   └── RunnerStopped         the thread that ran the model is gone
    ├── RefusedError              the edge said no; carries its code and when to try again
    ├── EngineError               a text at the edge's engine cannot go on
    │   ├── MemoryExceeded        it would outgrow the memory that the edge has for caches
    │   └── ReplicaLost           one of several engines is gone; its texts go on at another
    └── VirtualTimeError          code under virtual time asked for the real world

Errors carry their facts as attributes and say what to do next.
"""

from __future__ import annotations

__all__ = [
    "CascadeError",
    "ContextExceeded",
    "EngineError",
    "LinkClosed",
    "LinkError",
    "LinkUnavailable",
    "MemoryExceeded",
    "MessageTooLong",
    "ModelError",
    "RefusedError",
    "ReplicaLost",
    "RunnerStopped",
    "SettingsError",
    "VirtualTimeError",
    "WireError",
]


class CascadeError(Exception):
    """The root: catch this to catch everything that Cascade raises on purpose."""


class SettingsError(CascadeError, ValueError):
    """A setting is unknown or impossible."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason


class WireError(CascadeError):
    """Bytes that are no message of ours. Decoding raises this and nothing else."""


class LinkError(CascadeError):
    """The way to the other side failed."""


class LinkClosed(LinkError):
    """The link is gone: closed by a side, or lost."""


class LinkUnavailable(LinkError):
    """No edge could be reached."""


class MessageTooLong(LinkError):
    """A message is longer than the link carries; the link itself is well."""

    def __init__(self, num_bytes: int, limit_bytes: int) -> None:
        super().__init__(
            f"a message of {num_bytes} bytes is more than this link carries, which is {limit_bytes}; "
            "shorten the prompt, or raise the limit where the broker takes more"
        )
        self.num_bytes = num_bytes
        self.limit_bytes = limit_bytes


class ModelError(CascadeError):
    """A model cannot be loaded, or cannot do what was asked of it."""


class ContextExceeded(ModelError):
    """The text would outgrow the model's context."""

    def __init__(self, wanted: int, context_length: int) -> None:
        super().__init__(
            f"{wanted} tokens do not fit the model's context of {context_length}; "
            "shorten the prompt or ask for fewer new tokens"
        )
        self.wanted = wanted
        self.context_length = context_length


class RunnerStopped(ModelError):
    """The thread that ran the model is gone: stopped, or closed by its owner. It does not come back."""


class RefusedError(CascadeError):
    """The edge said no."""

    def __init__(self, code: str, text: str, retry_after_s: float | None = None) -> None:
        retry = "" if retry_after_s is None else f" (try again in {retry_after_s:g} s)"
        super().__init__(f"{code}: {text}{retry}")
        self.code = code
        self.text = text
        self.retry_after_s = retry_after_s


class EngineError(CascadeError):
    """A text at the edge's engine cannot go on; its device was told."""


class MemoryExceeded(EngineError):
    """A text alone would outgrow the memory that the edge has for all caches together."""

    def __init__(self, needed_bytes: int, budget_bytes: int) -> None:
        super().__init__(
            f"the text needs {needed_bytes / 1e6:.4g} MB of cache, the edge has {budget_bytes / 1e6:.4g} MB; "
            "shorten the prompt or ask for fewer new tokens, or give the edge more (kv_bytes)"
        )
        self.needed_bytes = needed_bytes
        self.budget_bytes = budget_bytes

    def __reduce__(self) -> tuple[type[MemoryExceeded], tuple[int, int]]:
        """Engines may be in other processes."""
        return type(self), (self.needed_bytes, self.budget_bytes)


class ReplicaLost(EngineError):
    """One of several engines behind one address is gone, or cannot be reached."""


class VirtualTimeError(CascadeError):
    """Code that runs in virtual time asked for a thread, a real socket, or waits for ever."""
