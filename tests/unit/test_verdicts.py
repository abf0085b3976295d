"""The replay that holds what was delivered against the books: honest ones pass, others are caught."""

from __future__ import annotations

import dataclasses

import pytest

from cascade.decoding import Sampling
from cascade.device import Policy
from cascade.edge import EdgeServer
from cascade.events import Source
from cascade.lab import pair
from cascade.lab.bench._cascade_real import Edge, Found, Place, musts_of
from cascade.lab.promise import own_picks
from cascade.lab.verdicts import judge, replay
from cascade.links.base import Link
from cascade.models.runner import PacedRunner, constant_cost
from cascade.models.synthetic import BetaAgreement
from cascade.testing import (
    Conditions,
    EmulatedLink,
    MemoryListener,
    SyntheticDraft,
    SyntheticTarget,
    run_virtual,
)

TARGET = SyntheticTarget(seed=4)
PLACE = Place(rtt_ms=100, temperature=0.8)
KEPT = "quality 0.9"


@pytest.fixture(scope="module")
def delivered() -> tuple[dict[str, pair.Course], pair.Block]:
    """Four courses on a synthetic pair in virtual time."""
    courses = PLACE.courses()
    return courses, run_virtual(_deliver(courses), limit_s=2000)


async def _deliver(courses: dict[str, pair.Course]) -> pair.Block:
    listener = MemoryListener()
    way = Conditions(delay_s=0.05)

    async def dial() -> Link:
        return EmulatedLink(await listener.dial(), up=way, down=way)

    draft = SyntheticDraft(TARGET, agreement=BetaAgreement(mean=0.8, concentration=1), seed=5)
    async with EdgeServer.of(TARGET, PacedRunner(constant_cost(0.05))) as edge:
        edge.listen(listener)
        prompts = [[1 + number, 2, 3] for number in range(12)]
        runner = PacedRunner(constant_cost(0.005))
        return await pair.run_block(
            dial, draft, prompts, courses, rtt_s=0.1, temperature=0.8, num_tokens=60, runner=runner
        )


def found_in(courses: dict[str, pair.Course], block: pair.Block, *, near_tie: float = 0.0) -> list[Found]:
    return [
        Found(
            edge=Edge("synthetic", is_exact=True),
            place=PLACE,
            course=name,
            block=block,
            replay=replay(TARGET, course, block.delivered[name], near_tie=near_tie),
        )
        for name, course in courses.items()
    ]


def broken(found: list[Found]) -> set[str]:
    return {row["must"] for row in musts_of(found) if not row["holds"]}


def test_what_was_delivered_is_what_the_books_say(
    delivered: tuple[dict[str, pair.Course], pair.Block],
) -> None:
    found = found_in(*delivered)
    assert broken(found) == set()
    by_course = {each.course: each.replay for each in found}
    kept = by_course[KEPT]
    assert kept.num_tokens == 24 + 11 * 60  # the first answer is on the account, too
    assert 0 < kept.num_wrong == kept.books.num_disputed
    assert 0.9 <= kept.own_share == kept.books.least_quality < 1
    assert kept.num_kept > 100
    assert by_course["cloud"].own_share == by_course["lossless"].own_share == 1
    assert by_course["cloud"].num_kept == 0


def test_a_dispute_that_the_books_hide_is_found(
    delivered: tuple[dict[str, pair.Course], pair.Block],
) -> None:
    courses, block = delivered
    book = courses[KEPT].ledger.book(0.9)
    book.num_disputed -= 1
    try:
        assert broken(found_in(courses, block)) == {
            "wrong, and unknown to the ledger",
            "exact edge: wrong by replay, less disputed",
        }
        book.num_disputed += 2
        assert broken(found_in(courses, block)) == {
            "disputed, and right by replay",
            "exact edge: wrong by replay, less disputed",
        }
    finally:
        book.num_disputed = found_in(courses, block)[2].replay.num_wrong


def test_a_token_that_the_edge_cannot_have_picked_is_found(
    delivered: tuple[dict[str, pair.Course], pair.Block],
) -> None:
    courses, block = delivered
    run = block.delivered["cloud"][-1]
    tokens = (*run.tokens[:-1], (run.tokens[-1] + 1) % TARGET.vocab_size)
    changed = {name: list(runs) for name, runs in block.delivered.items()}
    changed["cloud"][-1] = dataclasses.replace(run, tokens=tokens)
    forged = dataclasses.replace(block, delivered=changed)
    assert "wrong, and kept by nobody" in broken(found_in(courses, forged))
    changed["cloud"].pop()
    assert "delivered, and not in the books" in broken(found_in(courses, forged))


def test_near_ties_are_told_apart(delivered: tuple[dict[str, pair.Course], pair.Block]) -> None:
    courses, block = delivered
    course, runs = courses[KEPT], block.delivered[KEPT]
    strict = replay(TARGET, course, runs)
    leads = sorted(
        verdict.lead
        for run in runs
        for verdict in judge(TARGET, run.prompt, run.sampling, run.tokens)
        if not verdict.is_own
    )
    lenient = replay(TARGET, course, runs, near_tie=-leads[-2] + 1e-9)
    assert (strict.num_near_ties, strict.num_uncertain) == (0, 0)
    assert lenient.num_near_ties == 2
    assert lenient.num_wrong == strict.num_wrong - 2
    assert lenient.num_slandered == 0  # the edge may have seen it the other way round
    assert lenient.num_uncertain >= 2


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_verdicts_are_those_of_a_replay_step_by_step(temperature: float) -> None:
    sampling = Sampling(temperature=temperature, seed=9)
    prompt, tokens = [3, 1, 2], [(7 * index) % TARGET.vocab_size for index in range(200)]
    verdicts = judge(TARGET, prompt, sampling, tokens)
    assert [each.is_own for each in verdicts] == own_picks(TARGET, prompt, sampling, tokens)
    assert any(each.is_own for each in verdicts)
    assert all(each.lead >= 0 if each.is_own else each.lead <= 0 for each in verdicts)
    assert judge(TARGET, prompt, sampling, []) == []


def test_tokens_that_were_cut_trail_by_infinity() -> None:
    verdicts = judge(TARGET, [3, 1, 2], Sampling(temperature=0.8, top_k=1), list(range(20)))
    assert {each.lead for each in verdicts} <= {float("inf"), -float("inf")}


def test_sources_are_kept(delivered: tuple[dict[str, pair.Course], pair.Block]) -> None:
    _, block = delivered
    for run in block.delivered[KEPT]:
        assert len(run.sources) == len(run.tokens)
        assert sum(source is Source.KEPT for source in run.sources) == run.summary.num_kept
    assert Policy.cloud() == PLACE.courses()["cloud"].policy
