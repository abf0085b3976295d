"""`cascade distill`: a draft for a target, with progress, from nothing or from where it was interrupted."""

from __future__ import annotations

import asyncio
import json
from contextlib import closing
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from ..models.distill.making import distill, state_folder
from ..models.distill.memory import return_large_blocks
from ..models.distill.progress import Progress as Step
from ..models.distill.settings import DistillSettings
from .formats import duration

__all__ = ["main"]

LINE_EVERY_S = 60.0
"""Between two lines of progress where there is no terminal."""


def main(
    target: str,
    *,
    out: Path,
    settings: DistillSettings,
    prompts: Path | None,
    text: Path | None,
    threads: int,
    json_output: bool,
) -> int:
    """Make the draft and print its card; returns the exit code."""
    import torch

    torch.set_num_threads(threads)
    return_large_blocks()
    console = Console(stderr=json_output, highlight=False)
    # Seconds come from an event loop's clock, as everywhere in the library; nothing runs on this loop.
    with closing(asyncio.new_event_loop()) as loop, _Display(console, loop) as display:
        try:
            card = distill(
                target,
                out,
                settings,
                clock=loop.time,
                prompts=prompts,
                text=text,
                report=display.show,
            )
        except KeyboardInterrupt:
            console.print("interrupted; the same command goes on from here")
            raise
    if json_output:
        print(json.dumps(card))
    else:
        _print_card(console, out, card)
    return 0


class _Display:
    """A bar on a terminal, a line now and then anywhere else."""

    def __init__(self, console: Console, loop: asyncio.AbstractEventLoop) -> None:
        self._console = console
        self._loop = loop
        self._last: tuple[str, float] = ("", 0.0)
        self._bar = Progress(
            TextColumn("{task.fields[stage]:<8}"),
            BarColumn(),
            TextColumn("{task.fields[left]} {task.fields[note]}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("distill", total=1, stage="start", left="", note="")

    def __enter__(self) -> _Display:
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def show(self, step: Step) -> None:
        left = "" if step.left_s is None else f"{duration(step.left_s)} left"
        if self._console.is_terminal:
            self._bar.update(
                self._task,
                completed=step.done,
                total=step.total,
                stage=step.stage,
                left=left,
                note=step.note,
            )
            return
        now = self._loop.time()
        stage, said = self._last
        if step.stage != stage or "agreement" in step.note or now - said >= LINE_EVERY_S:
            self._last = (step.stage, now)
            share = f"{step.done / step.total:.1%}" if step.total else ""
            parts = [f"{step.stage} {share}", left, step.note]
            self._console.print(", ".join(part for part in parts if part), soft_wrap=True)


def _print_card(console: Console, out: Path, card: dict[str, Any]) -> None:
    text, training, times = card["text"], card["training"], card["step_time"]
    layers = ", ".join(map(str, card["layers_of_target"]))
    console.print(
        f"{out}: a draft for {card['target']}\n"
        f"  layers {layers} of the target, {card['vocab_size']} tokens, "
        f"{card['parameters'] / 1e6:.1f} million parameters\n"
        f"  trained on {text['answer_tokens']} answer tokens ({text['origin']}), "
        f"{training['answer_tokens_seen']} seen in {duration(60 * training['minutes'])}",
        soft_wrap=True,
    )
    for name, grades in card["agreement"].items():
        windows = " ".join(f"{share:.0%}" for share in grades["by_position_in_window"])
        console.print(
            f"  agreement, {name.replace('_', ' ')}: {grades['agreement']:.1%} of {grades['tokens']} "
            f"held-out tokens; by position in the window: {windows}",
            soft_wrap=True,
        )
    console.print(
        f"  a step takes {times['draft_step_ms']:.1f} ms, a pass of the target "
        f"{times['target_pass_ms']:.1f} ms ({times['target_over_draft']} times as long, {times['dtype']})\n"
        f"  what is needed to train on is in {state_folder(out)}; delete it when you are done",
        soft_wrap=True,
    )
