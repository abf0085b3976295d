"""The demo as its users have it: processes that find each other, an answer, a table, nothing left behind."""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import sys
from typing import Any

import psutil
import pytest
from rich.console import Console

from cascade.apps.demo.asking import Piece, Run
from cascade.apps.demo.processes import Commands
from cascade.apps.demo.show import Stage
from cascade.apps.demo.story import DemoOptions, _about_drafting, _about_texts, _best_hints, shared_cores
from cascade.errors import CascadeError, SettingsError
from cascade.lab.design_table import best_k

SMALL = ["--model", "smollm2-135m-draft", "--profile", "lan", "--tokens", "6"]
"""The draft as its own target: it comes with the package, so nothing is fetched."""


def run_of(text: str = "blue sky", *, mode: str = "cloud", agreement: float = 0.8, **ours: Any) -> Run:
    """One that is over."""
    pieces = [
        Piece(text=piece, source="driven", agreement=agreement, window=0, rtt_ms=100.0)
        for piece in text.split(" ")
    ]
    timings = {"prompt_ms": 130.0, "predicted_n": len(pieces), "predicted_per_token_ms": 50.0}
    facts = {"hinted": 0, "kept": 0, "bytes_up": 0, "bytes_down": 20, "rtt_ms": 100.0, **ours}
    return Run(mode=mode, pieces=pieces, facts={"timings": timings, "cascade": facts})


@pytest.mark.parametrize(("agreement", "rtt_ms"), [(0.6, 0), (0.8, 100), (0.9, 400)])
def test_ask_and_wait_is_compared_at_its_best(agreement: float, rtt_ms: int) -> None:
    run = run_of(agreement=agreement, rtt_ms=float(rtt_ms), edge_pass_ms=50.0, draft_step_ms=5.0)
    assert _best_hints(run) == min(32, best_k(agreement, rtt_ms))


async def test_the_table_in_a_pipe() -> None:
    stage = Stage(is_quiet=False)
    output = io.StringIO()
    stage.console = Console(file=output, width=100)
    run = run_of()
    with stage.answer() as answer:
        answer.show(run)
    stage.table([run, run_of(mode="hint-driven")])
    text = output.getvalue()
    assert "\x1b" not in text, "no colours"
    assert "bluesky\nround trip 100 ms   window 0   tokens a pass 1.0" in text
    assert "cloud streaming 130 ms 50 ms 2 10" in " ".join(text.split())


def test_texts_that_part_are_not_hidden() -> None:
    assert "to the letter" in _about_texts([run_of(), run_of()])
    assert "part at token 2" in _about_texts([run_of("blue sky"), run_of("blue sea")])
    assert "part at token 3" in _about_texts([run_of("blue sky"), run_of("blue sky x")])


def test_what_drafting_brought_is_explained() -> None:
    useful = run_of(mode="hint-driven", agreement=0.6, rtt_ms=75.0, edge_pass_ms=30.0, hinted=1)
    assert "right 60% of the time" in _about_drafting(useful)
    assert "says 2.5 tokens meanwhile" in _about_drafting(useful)
    useless = run_of(mode="hint-driven", agreement=0.3, rtt_ms=75.0, edge_pass_ms=30.0, hinted=0)
    assert "--profile wifi" in _about_drafting(useless)
    assert "--profile wifi" not in _about_drafting(useful)
    assert "too little was seen" in _about_drafting(run_of(rtt_ms=None))


@pytest.mark.parametrize(
    ("cores", "edge", "device"),
    [((3,), (3,), (3,)), ((0, 1), (1,), (0,)), ((0, 1, 5), (1, 5), (0,)), (range(4), (2, 3), (0, 1))],
)
def test_edge_and_device_do_not_take_each_others_cores(
    cores: Any, edge: tuple[int, ...], device: tuple[int, ...]
) -> None:
    assert shared_cores(cores) == (edge, device)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs Linux")
async def test_a_process_stays_on_its_cores() -> None:
    core = max(os.sched_getaffinity(0))
    async with Commands() as commands:
        serve = ("serve", "--model", "synthetic", "--http", "127.0.0.1:0", "--json")
        facts = await commands.start(*serve, within_s=60, cores=(core,))
        threads = [thread.id for thread in psutil.Process(facts["pid"]).threads()]
        assert all(os.sched_getaffinity(thread) == {core} for thread in threads)


@pytest.mark.parametrize(
    "options", [{"mode": "warp"}, {"prompt": " "}, {"profile": "lte5"}, {"max_tokens": 1}]
)
def test_impossible_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(SettingsError):
        DemoOptions(**options)


async def test_a_process_that_cannot_start_says_why() -> None:
    async with Commands() as commands:
        with pytest.raises(CascadeError, match=r"cascade serve ended before it was ready: .*no such model"):
            await commands.start("serve", "--model", "nonsense", "--http", "127.0.0.1:0", within_s=60)


async def test_processes_end_with_the_block() -> None:
    async with Commands() as commands:
        facts = await commands.start(
            "serve", "--model", "synthetic", "--http", "127.0.0.1:0", "--json", within_s=60
        )
        assert psutil.pid_exists(facts["pid"])
    assert not psutil.pid_exists(facts["pid"])


async def demo(*arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-W", "error", "-m", "cascade.cli", "demo", *SMALL, *arguments,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env=os.environ | {"PYTHONIOENCODING": "utf-8"},
    )  # fmt: skip


async def test_everything_from_a_question_to_a_table() -> None:
    """Over a broker, for programs."""
    process = await demo("--json")
    output, complaints = await process.communicate()
    assert (process.returncode, complaints) == (0, b"")
    report = json.loads(output)
    assert [run["mode"] for run in report["runs"]] == ["hint-driven", "cloud", "ask-and-wait"]
    assert all(run["tokens"] == 6 and run["text"] for run in report["runs"])
    assert report["way"] == "mqtt"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
async def test_it_leaves_nothing_behind(number: signal.Signals, code: int) -> None:
    process = await demo("--http", "--mode", "cloud", "--keep")
    assert process.stdout is not None
    said = b""
    while b"Ctrl-C ends it" not in said:
        line = await process.stdout.readline()
        assert line, said.decode()
        said += line
    children = psutil.Process(process.pid).children(recursive=True)
    assert len(children) == 2, "an edge and a device"
    process.send_signal(number)
    await process.communicate()
    assert process.returncode == code
    assert not any(child.is_running() for child in children)
