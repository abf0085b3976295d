"""An independent replay: is each delivered token the target's own pick, and do an account's books say so?

The target reads an answer once, in one wide pass, and picks at every position under the answer's own noise.
Without `exact` a pass of another width has slightly other sums, so where two tokens are nearly as good the
pick may be the other one. Such near ties are counted apart: nobody can say what the edge picked there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from ..decoding import Sampling, scores
from ..events import Account, Source
from ..models.base import Feed, LanguageModel
from .pair import Course, Run

__all__ = ["Replay", "Verdict", "judge", "replay"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """On one token."""

    is_own: bool
    """The target's pick."""
    lead: float
    """Of its score (logit by temperature, and noise) over the best other token's; negative where that is the
    pick."""


def judge(
    target: LanguageModel, prompt: Sequence[int], sampling: Sampling, tokens: Sequence[int]
) -> list[Verdict]:
    """One for each token of the answer, everything before it being what was delivered."""
    if not tokens:
        return []
    sequence = target.new_sequence()
    logits = target.forward([Feed(sequence, [*prompt, *tokens[:-1]], len(tokens))])
    sequence.release()
    return [
        _verdict(logits[index], sampling, len(prompt) + index, token) for index, token in enumerate(tokens)
    ]


def _verdict(logits: object, sampling: Sampling, position: int, token: int) -> Verdict:
    ids, found = scores(logits, sampling, position)
    place = int(np.searchsorted(ids, token))
    if place == len(ids) or ids[place] != token:  # cut
        return Verdict(False, -float("inf"))
    is_own = place == int(found.argmax())  # the first of equals
    others = np.delete(found, place)
    return Verdict(is_own, float(found[place] - others.max()) if len(others) else float("inf"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """What was delivered on an account, by the target and by the books."""

    quality: float
    num_tokens: int
    num_kept: int
    num_wrong: int
    """Not the target's picks; near ties are left out."""
    num_near_ties: int
    """Not its picks now, but for a hair."""
    widest_near_tie: float
    """By how much the pick leads at the widest of these."""
    num_strangers: int
    """Wrong, and not kept by the device: the edge itself said them."""
    num_uncertain: int
    """Kept at a near tie, whichever way it fell now: the edge's verdict may have been either."""
    least_room: float
    """(1 - quality) * delivered - wrong, at the token where it was least."""
    books: Account

    @property
    def own_share(self) -> float:
        return 1 - self.num_wrong / self.num_tokens

    @property
    def num_unknown(self) -> int:
        """Wrong, and neither disputed in the books nor waiting for a verdict."""
        return max(0, self.num_wrong - self.books.num_disputed - self.books.num_unaudited)

    @property
    def num_slandered(self) -> int:
        """Disputed in the books, and the target's own: the promise holds, and less is left to spend."""
        return max(0, self.books.num_disputed - self.num_wrong - self.num_uncertain)

    @property
    def num_miscounted(self) -> int:
        """Delivered and not in the books, or the other way round."""
        return abs(self.books.num_delivered + self.books.num_lossless - self.num_tokens)


def replay(target: LanguageModel, course: Course, runs: Sequence[Run], *, near_tie: float = 0.0) -> Replay:
    """All that was delivered on a course's account, in its order. Scores that are no further apart than
    `near_tie` may change places at another width; 0 for a target that is exact."""
    verdicts: list[Verdict] = []
    is_kept: list[bool] = []
    for run in runs:
        verdicts += judge(target, run.prompt, run.sampling, run.tokens)
        is_kept += [source is Source.KEPT for source in run.sources]
    is_wrong = [not each.is_own and -each.lead >= near_tie for each in verdicts]
    near_ties = [
        -each.lead for each, wrong in zip(verdicts, is_wrong, strict=True) if not (each.is_own or wrong)
    ]
    rooms = [
        (1 - course.quality) * count - num_wrong for count, num_wrong in enumerate(accumulate(is_wrong), 1)
    ]
    return Replay(
        quality=course.quality,
        num_tokens=len(verdicts),
        num_kept=sum(is_kept),
        num_wrong=sum(is_wrong),
        num_near_ties=len(near_ties),
        widest_near_tie=max(near_ties, default=0.0),
        num_strangers=sum(wrong and not kept for wrong, kept in zip(is_wrong, is_kept, strict=True)),
        num_uncertain=sum(
            kept and abs(each.lead) < near_tie for each, kept in zip(verdicts, is_kept, strict=True)
        ),
        least_room=min(rooms, default=0.0),
        books=course.ledger.book(course.quality).account,
    )
