"""What `cascade serve` may be told, and what it says when it cannot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cascade.apps.serving.options import ServeOptions, parse_address, read_config
from cascade.errors import SettingsError


@pytest.mark.parametrize(
    ("address", "parsed"),
    [
        ("127.0.0.1:8080", ("127.0.0.1", 8080)),
        ("0.0.0.0:0", ("0.0.0.0", 0)),
        ("[::1]:80", ("::1", 80)),
        (":9000", ("127.0.0.1", 9000)),
    ],
)
def test_addresses(address: str, parsed: tuple[str, int]) -> None:
    assert parse_address(address) == parsed


@pytest.mark.parametrize("address", ["8080", "host", "host:", "host:port", "host:70000", ""])
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(SettingsError, match="must be HOST:PORT"):
        parse_address(address)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"tls_cert": Path("x")}, "needs its key"),
        ({"tls_key": Path("x")}, "needs its key"),
        ({"client_ca": Path("x")}, "need TLS"),
        ({"drain_s": -1}, "at least 0"),
        ({"port": 70000}, "at most"),
        ({"name": ""}, "1 to 128"),
    ],
)
def test_impossible_options(options: dict[str, Any], says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        ServeOptions(**options)


def test_a_config_file(tmp_path: Path) -> None:
    path = tmp_path / "edge.toml"
    path.write_text("max_sessions = 7\nlease_s = 5.5\n[quota]\nmax_sessions = 2\ntokens_per_s = 100\n")
    settings = read_config(path)
    assert (settings.max_sessions, settings.lease_s) == (7, 5.5)
    assert (settings.quota.max_sessions, settings.quota.tokens_per_s) == (2, 100)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("max_sesions = 7", "edge.toml: max_sesions: unknown setting"),
        ("[quota]\nmax_pets = 1", "edge.toml: max_pets: unknown setting"),
        ("max_sessions = 'x'", "edge.toml: max_sessions: must be an integer"),
        ("quota = 7", "must be a table"),
        ("max_sessions = ", "is not TOML"),
    ],
)
def test_a_config_that_is_wrong(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "edge.toml"
    path.write_text(text)
    with pytest.raises(SettingsError, match=says):
        read_config(path)
