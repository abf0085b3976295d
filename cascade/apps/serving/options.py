"""What `cascade serve` may be told."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...edge import EdgeSettings, Quota
from ...errors import SettingsError
from ...settings import check_int, check_number, from_mapping
from .tokens import read_toml

__all__ = ["ServeOptions", "parse_address", "parse_arguments", "read_config"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOptions:
    """Where an edge listens, whom it lets in, and how it stops."""

    name: str = "edge"
    """What devices call this edge."""
    host: str = "127.0.0.1"
    """The address to listen on; 0.0.0.0 is every one."""
    port: int = 8080
    """0 takes a free one."""
    mqtt: str = ""
    """URL of a broker at which to listen as well, with our account; empty is none."""
    mqtt_ca: Path | None = None
    """The CA of the broker's certificate, where it is no public one."""
    tokens: Path | None = None
    """The file of identities and their bearer tokens. None: whoever reaches the port comes in."""
    tls_cert: Path | None = None
    """Certificate chain; None: no TLS."""
    tls_key: Path | None = None
    """Its private key."""
    client_ca: Path | None = None
    """Let in only clients with a certificate of this CA."""
    drain_s: float = 30.0
    """How long sessions may go on, or move away, once it was told to stop."""
    edge: EdgeSettings = field(default_factory=EdgeSettings)
    """Limits and habits behind the ports."""

    def __post_init__(self) -> None:
        check_int("port", self.port, low=0, high=65535)
        check_number("drain_s", self.drain_s, low=0)
        if not 1 <= len(self.name) <= 128:
            raise SettingsError("name", "must have 1 to 128 characters")
        if (self.tls_cert is None) != (self.tls_key is None):
            raise SettingsError("tls", "a certificate needs its key, and a key its certificate")
        if self.client_ca is not None and self.tls_cert is None:
            raise SettingsError("client_ca", "client certificates need TLS; give a certificate and its key")

    @property
    def is_open(self) -> bool:
        """Whoever reaches the port is let in."""
        return self.tokens is None and self.client_ca is None


def parse_address(address: str) -> tuple[str, int]:
    """HOST:PORT; an IPv6 host stands in brackets, a host left out is this machine only."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535:
        raise SettingsError("http", f"must be HOST:PORT, such as 127.0.0.1:8080, not {address[:64]!r}")
    return host.strip("[]") or "127.0.0.1", int(port)


def parse_arguments(arguments: Iterable[str]) -> dict[str, Any]:
    """NAME=VALUE of each; values as TOML writes them, anything else is text."""
    parsed: dict[str, Any] = {}
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if not equals or not name.isidentifier():
            raise SettingsError(
                "vllm", f"must be NAME=VALUE, such as max_model_len=8192, not {argument[:64]!r}"
            )
        try:
            parsed[name] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            parsed[name] = value
    return parsed


def read_config(path: Path) -> EdgeSettings:
    """`EdgeSettings` from a TOML file; the table [quota] is each identity's. Unknown keys are refused."""
    values: dict[str, Any] = read_toml(path)
    try:
        quota = values.pop("quota", {})
        if not isinstance(quota, dict):
            raise SettingsError("quota", "must be a table: [quota]")
        if "public_prefixes" in values:
            values["public_prefixes"] = tuple(tuple(prefix) for prefix in values["public_prefixes"])
        return dataclasses.replace(from_mapping(EdgeSettings, values), quota=from_mapping(Quota, quota))
    except SettingsError as error:
        raise SettingsError(f"{path}: {error.field}", error.reason) from None
