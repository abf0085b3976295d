"""What the demo looks like: colours and a live line on a terminal, plain lines in a pipe."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ..tints import MEANINGS, STYLES, live_line
from .asking import Run

__all__ = ["Stage"]

NAMES = {"hint-driven": "hint-driven", "cloud": "cloud streaming", "ask-and-wait": "ask and wait"}
REFRESH_PER_S = 10


class Stage:
    """Everything that is said to people. With `is_quiet` nothing is, for whoever reads JSON."""

    def __init__(self, *, is_quiet: bool) -> None:
        self.console = Console(highlight=False, quiet=is_quiet)

    def say(self, text: str) -> None:
        self.console.print(text, soft_wrap=True, markup=False)

    @contextmanager
    def busy(self, text: str) -> Iterator[None]:
        """While something takes long."""
        if self.console.is_terminal:
            with self.console.status(text):
                yield
        else:
            self.say(f"{text} ...")
            yield

    @contextmanager
    def answer(self) -> Iterator[_Answer]:
        answer = _Answer(self.console)
        if not self.console.is_terminal:
            yield answer
            answer.finish()
            return
        with Live(
            console=self.console, refresh_per_second=REFRESH_PER_S, vertical_overflow="visible"
        ) as live:
            answer.live = live
            yield answer
            answer.finish()

    def legend(self) -> None:
        for source, meaning in MEANINGS.items():
            if source != "kept":
                self.console.print(f"  [{STYLES[source]}]{source}[/] {meaning}")

    def table(self, runs: list[Run]) -> None:
        table = Table("", "first token", "a token", "passes", "bytes a token", box=None, pad_edge=False)
        for column in table.columns[1:]:
            column.justify = "right"
        for run in runs:
            figures = run.figures
            name = NAMES[run.mode] + (f", {run.hints} at a time" if run.hints else "")
            table.add_row(
                name,
                f"{figures['first_token_ms']:.0f} ms",
                f"{figures['ms_per_token']:.0f} ms",
                f"{figures['passes']}",
                f"{figures['payload_bytes_per_token']:.0f}",
            )
        self.console.print(table)


class _Answer:
    """One that grows."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._run: Run | None = None
        self._times_s: list[float] = []
        self._num_printed = 0
        self.live: Live | None = None

    def show(self, run: Run) -> None:
        if len(run.pieces) == self._num_printed:
            return
        self._run = run
        self._times_s.append(asyncio.get_running_loop().time())
        new = run.pieces[self._num_printed :]
        self._num_printed = len(run.pieces)
        if self.live is not None:
            self.live.update(Group(self._text(run), Text(""), Text(self._line(run), style="dim")))
        else:
            self._console.print("".join(piece.text for piece in new), end="", soft_wrap=True, markup=False)
            self._console.file.flush()

    def finish(self) -> None:
        if self._run is None:
            return
        if self.live is not None:
            self.live.update(self._text(self._run))
        else:
            self._console.print()
            self._console.print(self._line(self._run), soft_wrap=True)

    def _text(self, run: Run) -> Text:
        return Text.assemble(*((piece.text, STYLES[piece.source]) for piece in run.pieces))

    def _line(self, run: Run) -> str:
        rtt_ms = run.pieces[-1].rtt_ms
        return live_line(
            rtt_s=None if rtt_ms is None else rtt_ms / 1000,
            window=run.pieces[-1].window,
            num_tokens=len(run.pieces),
            num_driven=sum(piece.source == "driven" for piece in run.pieces),
            times_s=self._times_s,
        )
