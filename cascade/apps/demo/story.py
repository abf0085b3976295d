"""What the demo does, from an empty machine to a table."""

from __future__ import annotations

import asyncio
import functools
import json
import os
import signal
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import aiohttp

from ...errors import LinkError, SettingsError
from ...links.profiles import load_profile
from ...settings import check_choice, check_int
from ..signals import ENDING, on_signals
from .asking import Run, ask
from .processes import Commands
from .show import Stage

__all__ = ["MODES", "DemoOptions", "main"]

TARGET = "smollm2-135m"
DRAFT = "smollm2-135m-draft"
EDGE, DEVICE = "hall", "phone"
"""Their accounts at the broker."""
MODES = ("hint-driven", "cloud", "ask-and-wait")
PROMPT = "How do I make a cup of tea?"
"""The bundled draft is right in 56 % here, in 61 % over its held-out prompts, and in 30 % if it is asked why
the sky is blue, so that there is little to see."""
READY_S = 30.0
LOAD_S = 300.0
"""The first start turns the model's file into one that loads fast."""
CONNECT_S = 30.0
WARM_TOKENS = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoOptions:
    """What to show."""

    prompt: str = PROMPT
    """What to ask."""
    profile: str = "lte"
    """The link between device and edge."""
    mode: str = "all"
    """One of `MODES` alone; or `all`: hint-driven to look at, the others to compare."""
    uses_http: bool = False
    """A WebSocket instead of a broker."""
    max_tokens: int = 120
    """In an answer."""
    is_json: bool = False
    """One JSON object, and nothing for people."""
    is_exact: bool = False
    """The edge computes so that no batch changes a result: slower, and all modes say the same."""
    is_kept: bool = False
    """Leave it running, with its chat page, until Ctrl-C."""
    model: str = TARGET
    """The target."""
    draft: str = DRAFT
    """The device's."""

    def __post_init__(self) -> None:
        check_choice("mode", self.mode, ("all", *MODES))
        check_int("max_tokens", self.max_tokens, low=2, high=4000)
        if not self.prompt.strip():
            raise SettingsError("prompt", "is empty; ask something")
        load_profile(self.profile)


def main(options: DemoOptions) -> int:
    """Returns the exit code."""
    if options.model == TARGET:
        from ..models import fetch_one

        if options.is_json:
            from ...models.bundled import fetch

            fetch(TARGET)
        else:
            fetch_one(TARGET, None)
    return asyncio.run(_main(options))


async def _main(options: DemoOptions) -> int:
    task = asyncio.current_task()
    assert task is not None
    told: list[str] = []

    def end(name: str) -> None:
        told.append(name)
        task.cancel()  # a second signal while all is being ended changes nothing that matters

    for name in (*ENDING, "SIGHUP"):
        on_signals(functools.partial(end, name), name)
    try:
        await _tell(options, Stage(is_quiet=options.is_json))
    except asyncio.CancelledError:
        if not told:
            raise
        return 128 + int(signal.Signals[told[0]])
    return 0


async def _tell(options: DemoOptions, stage: Stage) -> None:
    async with AsyncExitStack() as stack:
        commands = await stack.enter_async_context(Commands())
        gateway = await _start(options, commands, stage)
        session = await stack.enter_async_context(aiohttp.ClientSession())
        url: str = gateway["url"]
        await _wait_for_edge(session, gateway["page"])
        modes = MODES if options.mode == "all" else (options.mode,)
        with stage.busy("warming up"):
            for mode in ("cloud", "hint-driven"):
                await ask(session, url, options.prompt, mode=mode, max_tokens=WARM_TOKENS)
        stage.say(f"\n{options.prompt}\n")
        with stage.answer() as answer:
            shown = await ask(
                session,
                url,
                options.prompt,
                mode=modes[0],
                hints=4 if modes[0] == "ask-and-wait" else None,
                max_tokens=options.max_tokens,
                show=answer.show,
            )
        stage.legend()
        runs = [shown]
        for mode in modes[1:]:
            with stage.busy(f"the same question, {mode}"):
                hints = _best_hints(shown) if mode == "ask-and-wait" else None
                runs.append(
                    await ask(
                        session, url, options.prompt, mode=mode, hints=hints, max_tokens=options.max_tokens
                    )
                )
        _conclude(options, stage, runs)
        if options.is_kept:
            stage.say(f"\nchat with it: {gateway['page']}   OpenAI's clients: {url}   Ctrl-C ends it")
            await asyncio.Event().wait()


async def _start(options: DemoOptions, commands: Commands, stage: Stage) -> dict[str, Any]:
    """All processes; what the device's gateway said."""
    serve = ["serve", "--model", options.model, "--name", EDGE, "--http", "127.0.0.1:0", "--json"]
    edge_cores, device_cores = shared_cores(_cores())
    serve += ["--threads", str(max(1, len(edge_cores))), "--drain-seconds", "0"]
    # The fastest format that answers as well; the exact mode has no kernel for it.
    serve += ["--exact"] if options.is_exact else ["--dtype", "int8"]
    gateway = ["gateway", "--http", "127.0.0.1:0", "--profile", options.profile, "--draft", options.draft]
    gateway += ["--identity", DEVICE, "--json"]
    if options.uses_http:
        with stage.busy(f"starting an edge with {options.model}"):
            edge = await commands.start(*serve, within_s=LOAD_S, cores=edge_cores)
        address = str(edge["link"])
    else:
        with stage.busy("starting a broker"):
            broker = await commands.start(
                *("broker", "--port", "0", "--edge", EDGE, "--device", DEVICE, "--json"),
                within_s=READY_S,
                cores=device_cores,
            )
        with stage.busy(f"starting an edge with {options.model}"):
            secret = {"CASCADE_MQTT": str(broker["accounts"][EDGE])}
            edge = await commands.start(*serve, within_s=LOAD_S, environment=secret, cores=edge_cores)
        address = f"{broker['accounts'][DEVICE]}/{EDGE}"
    with stage.busy(f"starting a device with {options.draft}, over {options.profile}"):
        ready = await commands.start(
            *gateway, within_s=LOAD_S, environment={"CASCADE_EDGE": address}, cores=device_cores
        )
    profile = load_profile(options.profile)
    way = "a WebSocket" if options.uses_http else "an MQTT broker"
    stage.say(
        f"device and edge are processes of their own on this machine. They talk through {way}, over an "
        f"emulated link: {profile.name}, {profile.about}"
    )
    return ready


async def _wait_for_edge(session: aiohttp.ClientSession, page: str) -> None:
    """The device dials when it starts; over a bad link that takes a moment."""
    until_s = asyncio.get_running_loop().time() + CONNECT_S
    while asyncio.get_running_loop().time() < until_s:
        async with session.get(f"{page}/health") as answer:
            if answer.status == 200:
                return
        await asyncio.sleep(0.2)
    raise LinkError(f"device and edge did not find each other within {CONNECT_S:g} s; try another --profile")


def _best_hints(run: Run) -> int:
    """How many guesses at a time ask-and-wait should send on this link, by the textbook formula."""
    figures = run.figures
    chance = min(run.agreement, 0.99)
    fixed_ms = (figures["rtt_ms"] or 0.0) + (figures["edge_pass_ms"] or 0.0)
    step_ms = figures["draft_step_ms"] or 1.0

    def ms_per_token(hints: int) -> float:
        return (fixed_ms + hints * step_ms) * (1 - chance) / (1 - chance ** (hints + 1))

    return min(range(1, 33), key=ms_per_token)


def _conclude(options: DemoOptions, stage: Stage, runs: list[Run]) -> None:
    if options.is_json:
        report = {
            "prompt": options.prompt,
            "profile": options.profile,
            "way": "http" if options.uses_http else "mqtt",
            "cores": len(_cores()),
            "same_text": len({run.text for run in runs}) == 1,
            "runs": [run.figures for run in runs],
        }
        print(json.dumps(report), flush=True)
        return
    stage.say("")
    stage.table(runs)
    stage.say(
        f"\none run each, {runs[0].figures['tokens']} tokens at temperature 0; "
        f"device and edge share the {len(_cores())} cores of this machine"
    )
    if runs[0].mode == "hint-driven":
        stage.say(_about_drafting(runs[0]))
    if len(runs) > 1:
        stage.say(_about_texts(runs))


def _about_texts(runs: list[Run]) -> str:
    if len({run.text for run in runs}) == 1:
        return "all of them said the same, to the letter"
    sources = [[piece.text for piece in run.pieces] for run in runs]
    at = next(
        (index for index, texts in enumerate(zip(*sources, strict=False)) if len(set(texts)) > 1),
        min(map(len, sources)),
    )
    return (
        f"their texts part at token {at + 1}: a near tie, which int8 decides by the width of a pass "
        "(with --exact they are the same)"
    )


def _about_drafting(run: Run) -> str:
    """Why it brought what it brought."""
    rtt_ms, pass_ms = run.figures["rtt_ms"], run.figures["edge_pass_ms"]
    if not rtt_ms or not pass_ms:
        return "too little was seen of the link to say what drafting can bring"
    said = (
        f"the draft was right {run.agreement:.0%} of the time, as the device saw it. A hint is of use if it "
        f"was right since a round trip ago, and the edge says {rtt_ms / pass_ms:.1f} tokens meanwhile"
    )
    if run.figures["hinted"]:
        return said
    return (
        f"{said}: that seldom happens, so the device hardly drafted. Try --profile wifi, or another --prompt"
    )


def shared_cores(cores: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Cores for the edge, and for the device and the broker: two machines do not take each other's.

    All for both where there is one only.
    """
    num_device = 1 if len(cores) < 4 else 2
    if len(cores) <= num_device:
        return tuple(cores), tuple(cores)
    return tuple(cores[num_device:]), tuple(cores[:num_device])


def _cores() -> Sequence[int]:
    """Cores that this process may use; a container is often given fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return range(os.cpu_count() or 1)
