"""The same questions to all, in turns, so that whatever else the machine does hits everybody alike."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ..progress import say

__all__ = ["Answered", "Peer", "contest"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """One answer, as whoever asked saw it."""

    times_s: tuple[float, ...]
    """When its pieces came, since it was asked for."""
    num_tokens: int
    """In these pieces; an endpoint may send several tokens in one."""
    text: str

    @property
    def ms_per_token(self) -> float | None:
        """None of an answer of one piece."""
        if self.num_tokens < 2 or len(self.times_s) < 2:
            return None
        return 1000 * (self.times_s[-1] - self.times_s[0]) / (self.num_tokens - 1)


class Peer(Protocol):
    """Somebody who answers questions."""

    @property
    def name(self) -> str: ...

    async def answer(self, question: str, num_tokens: int) -> Answered: ...


async def contest(
    peers: Sequence[Peer], questions: Sequence[str], *, num_tokens: int
) -> list[dict[str, Any]]:
    """A row for each, the first being what the others are held against. One question more warms up."""
    answers: list[list[Answered]] = [[] for _ in peers]
    for number, question in enumerate([questions[-1], *questions]):
        for turn in range(len(peers)):
            index = (number + turn) % len(peers)
            answered = await peers[index].answer(question, num_tokens)
            if number:
                answers[index].append(answered)
        if number:
            say(f"question {number} of {len(questions)}")
    return [_row(peer.name, mine, answers[0]) for peer, mine in zip(peers, answers, strict=True)]


def _row(name: str, answers: Sequence[Answered], first: Sequence[Answered]) -> dict[str, Any]:
    times_ms = [ms for answer in answers if (ms := answer.ms_per_token) is not None]
    ratios = [
        ours / theirs
        for answer, other in zip(answers, first, strict=True)
        if (ours := answer.ms_per_token) is not None and (theirs := other.ms_per_token)
    ]
    return {
        "who": name,
        "ms_per_token": round(statistics.median(times_ms), 2) if times_ms else None,
        "by_first": round(statistics.median(ratios), 3) if ratios else None,
        "first_token_ms": round(1000 * statistics.median(answer.times_s[0] for answer in answers), 1),
        "tokens": sum(answer.num_tokens for answer in answers),
        "same_text": sum(a.text == b.text for a, b in zip(answers, first, strict=True)) / len(answers),
    }
