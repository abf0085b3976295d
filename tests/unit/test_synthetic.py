"""The synthetic pair: agreement as stated, and logits of what the cache really holds."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cascade.decoding import Sampling, pick
from cascade.errors import ContextExceeded, SettingsError
from cascade.models.base import Feed, LanguageModel
from cascade.testing import BetaAgreement, SyntheticDraft, SyntheticTarget

TARGET = SyntheticTarget(seed=3)
CUTS = {"top_k": 8, "top_p": 0.9, "min_p": 0.05}


def agreement_of(draft: SyntheticDraft, sampling: Sampling, count: int) -> float:
    """How often the draft's pick is the target's, along the target's own text."""
    theirs, ours = TARGET.new_sequence(), draft.new_sequence()
    fed, position, num_agreed = [1, 2, 3], 3, 0
    for _ in range(count):
        token = pick(TARGET.forward([Feed(theirs, fed, 1)])[0], sampling, position)
        num_agreed += token == pick(draft.forward([Feed(ours, fed, 1)])[0], sampling, position)
        fed, position = [token], position + 1
    return num_agreed / count


@pytest.mark.parametrize("cuts", [{}, CUTS], ids=["plain", "cuts"])
@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("rate", [0.0, 0.6, 0.9, 1.0])
def test_the_draft_agrees_at_the_rate_asked_for(
    rate: float, temperature: float, cuts: dict[str, float]
) -> None:
    count = 1000
    sampling = Sampling(temperature=temperature, seed=5, **cuts)  # type: ignore[arg-type]
    found = agreement_of(SyntheticDraft(TARGET, agreement=rate), sampling, count)
    assert found == pytest.approx(rate, abs=3.3 * math.sqrt(rate * (1 - rate) / count))


def test_chances_may_vary_from_token_to_token() -> None:
    draft = SyntheticDraft(TARGET, agreement=BetaAgreement(mean=0.8, concentration=1))
    chances = [draft.chance(state) for state in range(5000)]
    assert np.mean(chances) == pytest.approx(0.8, abs=0.02)
    assert np.var(chances) == pytest.approx(0.8 * 0.2 / 2, rel=0.1)
    found = agreement_of(draft, Sampling(), 3000)
    assert found == pytest.approx(0.8, abs=3.3 * math.sqrt(0.16 / 3000))


def logits(model: LanguageModel, tokens: list[int], num_logits: int = 1) -> np.ndarray:
    return np.asarray(model.forward([Feed(model.new_sequence(), tokens, num_logits)]))


def test_the_cache_matters() -> None:
    """A rejected token that is still in the cache gives other logits; a truncated one does not."""
    sequence = TARGET.new_sequence()
    TARGET.forward([Feed(sequence, [1, 2, 3, 99 % 64], 1)])
    kept = sequence.fork()
    sequence.truncate(3)
    assert np.array_equal(TARGET.forward([Feed(sequence, [4], 1)]), logits(TARGET, [1, 2, 3, 4]))
    assert not np.array_equal(TARGET.forward([Feed(kept, [4], 1)]), logits(TARGET, [1, 2, 3, 4]))
    assert (sequence.length, kept.length) == (4, 5)


def test_a_fork_goes_its_own_way() -> None:
    sequence = TARGET.new_sequence()
    TARGET.forward([Feed(sequence, [1, 2], 0)])
    fork = sequence.fork()
    TARGET.forward([Feed(fork, [3], 1)])
    fork.release()
    assert sequence.length == 2
    assert np.array_equal(TARGET.forward([Feed(sequence, [4], 1)]), logits(TARGET, [1, 2, 4]))


def test_the_empty_text_and_order_and_start_matter() -> None:
    rows = [tuple(logits(TARGET, tokens)[0]) for tokens in ([0], [0, 0], [1, 2], [2, 1], [1], [1, 1])]
    assert len(set(rows)) == len(rows)
    assert not np.array_equal(logits(SyntheticTarget(seed=4), [1]), logits(TARGET, [1]))
    assert np.array_equal(logits(SyntheticTarget(seed=3), [1]), logits(TARGET, [1]))


def test_one_pass_gives_what_many_give() -> None:
    together = logits(TARGET, [1, 2, 3, 4, 5], 3)
    apart = [logits(TARGET, [1, 2, 3, 4, 5][:length])[0] for length in (3, 4, 5)]
    assert np.array_equal(together, np.stack(apart))


def test_a_batch_gives_what_each_gives_alone() -> None:
    feeds = [Feed(TARGET.new_sequence(), tokens, len(tokens)) for tokens in ([1, 2], [3], [4, 5, 6])]
    feeds.insert(1, Feed(TARGET.new_sequence(), [9], 0))
    rows = TARGET.forward(feeds)
    alone = [logits(TARGET, list(feed.tokens), feed.num_logits) for feed in feeds if feed.num_logits]
    assert np.array_equal(rows, np.concatenate(alone))
    assert rows.dtype == np.float32


def test_the_context_ends() -> None:
    small = SyntheticTarget(context_length=4)
    sequence = small.new_sequence()
    small.forward([Feed(sequence, [1, 2, 3, 4], 1)])
    with pytest.raises(ContextExceeded) as exceeded:
        small.forward([Feed(sequence, [5], 1)])
    assert (exceeded.value.wanted, exceeded.value.context_length) == (5, 4)
    assert sequence.length == 4


def test_names_tell_models_apart_and_draft_and_target_together() -> None:
    draft = SyntheticDraft(TARGET, agreement=0.5)
    assert draft.vocab_fingerprint == TARGET.vocab_fingerprint
    assert SyntheticTarget(vocab_size=65).vocab_fingerprint != TARGET.vocab_fingerprint
    assert len({TARGET.numerics, SyntheticTarget(seed=4).numerics, draft.numerics}) == 3


@pytest.mark.parametrize("agreement", [-0.1, 1.1, math.nan])
def test_impossible_agreements_are_refused(agreement: float) -> None:
    with pytest.raises(SettingsError, match="agreement"):
        SyntheticDraft(TARGET, agreement=agreement)
    with pytest.raises(SettingsError, match="mean"):
        BetaAgreement(mean=agreement, concentration=1)
