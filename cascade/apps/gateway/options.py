"""What `cascade gateway` may be told about its HTTP side."""

from __future__ import annotations

from dataclasses import dataclass

from ...errors import SettingsError
from ...settings import check_int, check_number

__all__ = ["GatewayOptions"]

MAX_STREAMS = 256
"""A device has no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayOptions:
    """Where the gateway listens, whom it lets in, and how much it takes on."""

    host: str = "127.0.0.1"
    """The address to listen on; 0.0.0.0 is every one."""
    port: int = 8000
    """0 takes a free one."""
    model_name: str = "cascade"
    """What clients call the model. The edge's own name for it is understood as well, once it is known."""
    cors_origins: tuple[str, ...] = ()
    """Origins of web pages that may ask, or "*" for all."""
    max_streams: int = 8
    """Answers at a time; more wait."""
    max_waiting: int = 32
    """Requests that wait for their turn; more get 429."""
    max_wait_s: float = 30.0
    """Who has not had a turn by then gets 503."""
    edge_timeout_s: float = 10.0
    """A request that no edge has taken by then gets 503."""
    keep_alive_s: float = 5.0
    """Silence in a stream after which a comment is sent: proxies cut connections that say nothing."""
    send_timeout_s: float = 20.0
    """A client that takes nothing for so long is cut."""
    default_max_tokens: int = 1024
    """Of a chat answer, where the client names no limit. Plain completions have OpenAI's 16."""
    max_request_bytes: int = 1 << 20
    """A longer request gets 413."""

    def __post_init__(self) -> None:
        check_int("port", self.port, low=0, high=65535)
        check_int("max_streams", self.max_streams, low=1, high=MAX_STREAMS)
        check_int("max_waiting", self.max_waiting, low=0, high=10_000)
        check_int("default_max_tokens", self.default_max_tokens, low=1)
        check_int("max_request_bytes", self.max_request_bytes, low=1024)
        for name in ("max_wait_s", "edge_timeout_s", "keep_alive_s", "send_timeout_s"):
            check_number(name, getattr(self, name), low=0.001)
        if not self.model_name:
            raise SettingsError("model_name", "must not be empty")
        for origin in self.cors_origins:
            if origin != "*" and (not origin.startswith(("http://", "https://")) or origin.endswith("/")):
                raise SettingsError(
                    "cors", f"an origin is written http://host:port, without a path, not {origin[:64]!r}"
                )

    @property
    def is_local(self) -> bool:
        """Nobody but this machine reaches the port."""
        return self.host.startswith("127.") or self.host in ("localhost", "::1")
