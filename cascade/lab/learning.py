"""How well calibrated agreement chances are on streams that were not learnt from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from ..decoding import Sampling, pick
from ..device.confidence import confidence_in
from ..measure import Calibration, Confidence
from ..models.base import Feed, LanguageModel, promise_of
from ..testing import BetaAgreement, SyntheticDraft, SyntheticTarget

if TYPE_CHECKING:
    from ..models.distill.exam import Paper

__all__ = ["calibration_errors", "recorded_errors"]

DRAFTS: dict[str, float | BetaAgreement] = {
    "one rate": 0.7,
    "honest chances": BetaAgreement(mean=0.7, concentration=2.0),
    "too sure": BetaAgreement(mean=0.7, concentration=2.0, sharpness=2.5),
    "too timid": BetaAgreement(mean=0.7, concentration=2.0, sharpness=0.4),
}
NUM_BINS = 10


def calibration_errors(kind: str, *, num_streams: int, num_learnt: int = 2000) -> dict[str, float]:
    """Expected calibration error before and after `num_learnt` verdicts, each held-out stream 500 long."""
    held_out = [list(verdicts(kind, seed=100 + number, num_tokens=500)) for number in range(num_streams)]
    return _before_and_after([list(verdicts(kind, seed=1, num_tokens=num_learnt))], held_out)


def recorded_errors(
    draft: LanguageModel, papers: Sequence[Paper], *, num_learnt: int = 2000
) -> dict[str, float]:
    """The same of a real draft on recorded answers of its target: so many tokens are learnt from, of answers
    of either kind in turns; the rest is held out."""
    pairs = zip(*(_recorded(draft, paper) for paper in papers), strict=True)
    streams = [stream for pair in pairs for stream in pair]
    learnt: list[list[Verdict]] = []
    while streams and sum(map(len, learnt)) < num_learnt:
        learnt.append(streams.pop(0))
    return {
        "tokens_learnt": sum(map(len, learnt)),
        "tokens_held_out": sum(map(len, streams)),
        **_before_and_after(learnt, streams),
    }


def _before_and_after(learnt: list[list[Verdict]], held_out: list[list[Verdict]]) -> dict[str, float]:
    """Each stream begins with what the ones before it knew, as on a device."""
    known = Calibration()
    before = expected_error(known, held_out)
    for verdicts_of_one in learnt:
        stream = known.fork()
        for confidence, place, is_agreed in verdicts_of_one:
            stream.learn(confidence, place, is_agreed=is_agreed)
        known.adopt(stream)
    return {"before_learning": before, "expected_calibration_error": expected_error(known, held_out)}


def _recorded(draft: LanguageModel, paper: Paper) -> Iterator[list[Verdict]]:
    for index, text in enumerate(paper.texts):
        sampling = paper.sampling(index)
        sequence = draft.new_sequence()
        rows = draft.forward([Feed(sequence, text.tokens[:-1], len(text.answer))])
        stream: list[Verdict] = []
        place = 0
        for number, token in enumerate(text.answer):
            position = len(text.prompt) + number
            guessed = pick(rows[number], sampling, position)
            stream.append(
                (confidence_in(sequence, rows[number], guessed, sampling, position), place, guessed == token)
            )
            place = place + 1 if guessed == token else 0
        sequence.release()
        yield stream


Verdict = tuple[Confidence, int, bool]


def verdicts(kind: str, *, seed: int, num_tokens: int) -> Iterator[Verdict]:
    """What the draft says about each token of a true text, its place in a window, and whether it is right."""
    target = SyntheticTarget(seed=seed)
    draft = SyntheticDraft(target, agreement=DRAFTS[kind], seed=seed + 1)
    truth, guess = target.new_sequence(), draft.new_sequence()
    fed, place = [seed % 60, 2, 3], 0
    for position in range(3, 3 + num_tokens):
        token = pick(target.forward([Feed(truth, fed, 1)])[0], Sampling(), position)
        guessed = pick(draft.forward([Feed(guess, fed, 1)])[0], Sampling(), position)
        promise = promise_of(guess)
        confidence = Confidence(promise=promise if isinstance(promise, float) else None)
        yield confidence, place, guessed == token
        place = place + 1 if guessed == token else 0
        fed = [token]


def expected_error(known: Calibration, streams: list[list[Verdict]]) -> float:
    """Chances stated against shares agreed, in bins of equal width. Each stream goes on learning."""
    sums = [[0.0, 0.0, 0.0] for _ in range(NUM_BINS)]
    for stream in streams:
        calibration = known.fork()
        for confidence, place, is_agreed in stream:
            chance = calibration.chance(confidence, place)
            bin_ = sums[min(int(chance * NUM_BINS), NUM_BINS - 1)]
            for index, value in enumerate((1.0, chance, float(is_agreed))):
                bin_[index] += value
            calibration.learn(confidence, place, is_agreed=is_agreed)
    total = sum(count for count, _, _ in sums)
    return sum(abs(stated - agreed) for _, stated, agreed in sums) / total
