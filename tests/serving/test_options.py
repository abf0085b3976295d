"""What `cascade serve` may be told, and what it says when it cannot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cascade.apps.serving.engines import recipe_for
from cascade.apps.serving.options import ServeOptions, parse_address, parse_arguments, read_config
from cascade.edge import EdgeSettings
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


def test_arguments_of_an_engine_are_written_as_in_toml_or_are_text() -> None:
    given = [
        "max_model_len=8192",
        "enforce_eager=true",
        "quantization=awq",
        "gpu_memory_utilization=0.9",
        "a==b",
    ]
    assert parse_arguments(given) == {
        "max_model_len": 8192,
        "enforce_eager": True,
        "quantization": "awq",
        "gpu_memory_utilization": 0.9,
        "a": "=b",
    }
    assert parse_arguments([]) == {}


@pytest.mark.parametrize("argument", ["", "max_model_len", "=8192", "max-model-len=8192"])
def test_what_is_no_argument(argument: str) -> None:
    with pytest.raises(SettingsError, match="must be NAME=VALUE"):
        parse_arguments([argument])


@pytest.mark.parametrize(
    ("engine", "changes", "says"),
    [
        ("llama", {}, "engine: must be one of torch, vllm"),
        ("torch", {"arguments": {"max_model_len": 1}}, "--engine vllm"),
        ("vllm", {"exact": True}, "vLLM has none"),
    ],
)
def test_engines_that_do_not_go_with_what_is_asked(engine: str, changes: dict[str, Any], says: str) -> None:
    plain: dict[str, Any] = {
        "ref": "synthetic",
        "dtype": "bfloat16",
        "exact": False,
        "num_threads": None,
        "edge": EdgeSettings(),
        "arguments": {},
    }
    with pytest.raises(SettingsError, match=says):
        recipe_for(engine, **(plain | changes))


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
