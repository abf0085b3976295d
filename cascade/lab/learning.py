"""How well calibrated agreement chances are on streams that were not learnt from."""

from __future__ import annotations

from collections.abc import Iterator

from ..decoding import Sampling, pick
from ..measure import Calibration, Confidence
from ..models.base import Feed, promise_of
from ..testing import BetaAgreement, SyntheticDraft, SyntheticTarget

__all__ = ["calibration_errors"]

DRAFTS: dict[str, float | BetaAgreement] = {
    "one rate": 0.7,
    "honest chances": BetaAgreement(mean=0.7, concentration=2.0),
    "too sure": BetaAgreement(mean=0.7, concentration=2.0, sharpness=2.5),
    "too timid": BetaAgreement(mean=0.7, concentration=2.0, sharpness=0.4),
}
NUM_BINS = 10


def calibration_errors(kind: str, *, num_streams: int, num_learnt: int = 2000) -> dict[str, float]:
    """Expected calibration error before and after `num_learnt` verdicts, each held-out stream 500 long."""
    known = Calibration()
    held_out = [list(verdicts(kind, seed=100 + number, num_tokens=500)) for number in range(num_streams)]
    before = expected_error(known, held_out)
    stream = known.fork()
    for confidence, place, is_agreed in verdicts(kind, seed=1, num_tokens=num_learnt):
        stream.learn(confidence, place, is_agreed=is_agreed)
    known.adopt(stream)
    return {"before_learning": before, "expected_calibration_error": expected_error(known, held_out)}


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
