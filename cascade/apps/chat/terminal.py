"""A conversation on a terminal: tokens tinted by their source, and below them a line about how it goes."""

from __future__ import annotations

import unicodedata

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from ...device import AnswerStream
from ...events import Token
from ..tints import MEANINGS, STYLES, live_line

__all__ = ["TerminalScreen", "visible"]

REFRESH_PER_S = 10
NUM_TIMES = 16


class TerminalScreen:
    """Finished lines are printed and stay; the one that still grows is drawn anew, with the live line below.
    So an answer may be longer than the screen."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False)
        self._live: Live | None = None
        self._tail = Text()
        """The line that grows."""
        self._times_s: list[float] = []

    def greet(self, model: str, problem: str) -> None:
        self._dim(f"{model} answers; /help says what else there is" if model else _waits_for_edge(problem))
        for source, meaning in MEANINGS.items():
            self._console.print(Text.assemble("  ", (source, STYLES[source]), " ", (meaning, "dim")))

    def note(self, text: str) -> None:
        self._dim(text)

    def begin(self) -> None:
        self._tail = Text()
        self._times_s.clear()
        self._live = Live(console=self._console, refresh_per_second=REFRESH_PER_S, transient=True)
        self._live.start()

    def wait(self, problem: str) -> None:
        if self._live is not None and not self._times_s:
            text = _waits_for_edge(problem) if problem else "…"
            self._live.update(Text(text, style="dim"))

    def token(self, token: Token, stream: AnswerStream) -> None:
        assert self._live is not None, "a token outside of an answer"
        self._times_s = [*self._times_s[-NUM_TIMES + 1 :], token.time_s]
        self._tail.append(visible(token.text), style=STYLES[token.source.value])
        *finished, self._tail = self._tail.wrap(self._console, self._console.width) or [Text()]
        for line in finished:
            self._console.print(line)
        self._live.update(Group(self._tail, Text(self._line(stream), style="dim", overflow="ellipsis")))

    def end(self, question: str, stream: AnswerStream) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None
        if self._tail:
            self._console.print(self._tail)
        summary = stream.summary
        if summary.finish_reason == "cancelled":
            self._dim(f"stopped after {summary.num_tokens} tokens")
        elif summary.num_tokens:
            self._dim(self._line(stream))

    def _line(self, stream: AnswerStream) -> str:
        summary = stream.summary
        return live_line(
            rtt_s=summary.rtt_s,
            window=stream.num_ahead,
            num_tokens=summary.num_tokens,
            num_driven=summary.num_tokens - summary.num_hinted - summary.num_kept,
            times_s=self._times_s,
        )

    def _dim(self, text: str) -> None:
        self._console.print(Text(text, style="dim"))


def visible(text: str) -> str:
    """What a model says must not steer the terminal."""
    return "".join("�" if unicodedata.category(c) == "Cc" and c not in "\n\t" else c for c in text)


def _waits_for_edge(problem: str) -> str:
    return f"no edge answers yet ({problem})" if problem else "no edge answers yet"
