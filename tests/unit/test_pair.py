"""The parts of `cascade bench pair` that need no model: forecasts, blocks, and processes with a core each."""

from __future__ import annotations

import asyncio
import os
import random
from pathlib import Path

import pytest

from cascade.decoding import Sampling
from cascade.device import Policy
from cascade.edge import EdgeServer
from cascade.errors import CascadeError
from cascade.lab import cores, pair
from cascade.lab.bench import pair as bench
from cascade.lab.fast_model import FixedPolicy, Loop, run_fast
from cascade.lab.forecast import Costs, best_question, expected_gains, served_curve
from cascade.lab.record import judged
from cascade.lab.twin import times_in_virtual_time_s
from cascade.lab.watched import Step, WatchedEdge, WatchedRunner, watched_edge
from cascade.links.base import Link
from cascade.models.paced import Recording
from cascade.models.runner import PacedRunner, constant_cost
from cascade.testing import MemoryListener, SyntheticDraft, SyntheticTarget, run_virtual

FLAT = {1: 0.02, 2: 0.02, 4: 0.02, 8: 0.02}
STEEP = {1: 0.02, 2: 0.04, 4: 0.08, 8: 0.16}
PASS_S, STEP_S = 0.02, 0.0037


def coins(agreement: float, count: int = 600, seed: int = 3) -> list[bool]:
    dice = random.Random(seed)
    return [dice.random() < agreement for _ in range(count)]


def costs(curve: dict[int, float] = FLAT, *, rtt_s: float = 0.0, step_s: float = STEP_S) -> Costs:
    return Costs(plain_s=curve[1], pass_s=curve, draft_step_s=step_s, rtt_s=rtt_s)


def gain(agreement: float, curve: dict[int, float], rtt_s: float = 0.0, step_s: float = STEP_S) -> float:
    return expected_gains([coins(agreement)], costs(curve, rtt_s=rtt_s, step_s=step_s))[0]


def test_forecasts_follow_agreement_rows_and_link() -> None:
    assert 1.1 < gain(0.55, FLAT) < gain(0.8, FLAT) < 5
    assert gain(0.8, STEEP) < gain(0.8, FLAT)
    assert gain(0.8, FLAT, rtt_s=0.2) < gain(0.8, FLAT)


def test_where_nothing_helps_plain_streaming_is_the_best_policy() -> None:
    assert gain(0.3, STEEP) == 1.0
    assert gain(0.6, FLAT, step_s=0.05) >= 1.0


def test_a_machine_that_is_slower_in_everything_gains_the_same() -> None:
    slower = {rows: 3 * seconds for rows, seconds in FLAT.items()}
    assert gain(0.7, slower, step_s=3 * STEP_S) == pytest.approx(gain(0.7, FLAT))


def test_every_text_has_its_own_forecast_under_one_policy() -> None:
    texts = [coins(agreement, 40, seed) for seed, agreement in enumerate((0.3, 0.6, 0.9))]
    low, middle, high = expected_gains(texts, costs())
    assert low < middle < high
    # Chosen with all texts in view: no text alone could ask for less.
    assert all(
        ours <= expected_gains([text], costs())[0]
        for ours, text in zip((low, middle, high), texts, strict=True)
    )


def test_passes_that_are_slower_while_the_device_drafts_eat_the_gain() -> None:
    crowded = Costs(
        plain_s=PASS_S, pass_s={rows: 1.2 * s for rows, s in FLAT.items()}, draft_step_s=STEP_S, rtt_s=0.0
    )
    [free], [held] = expected_gains([coins(0.7)], costs()), expected_gains([coins(0.7)], crowded)
    assert free / 1.2 <= held < 0.95 * free  # a longer pass takes more hints


def test_a_pass_of_the_fast_model_takes_what_the_curve_says_of_its_width() -> None:
    line = Loop(rtt_s=0.0, draft_step_s=STEP_S, pass_s=PASS_S, row_s=0.001)
    corners = Loop(rtt_s=0.0, draft_step_s=STEP_S, pass_s=PASS_S, hints_s=(0.0, 0.001, 0.002, 0.003))
    jump = Loop(rtt_s=0.0, draft_step_s=STEP_S, pass_s=PASS_S, hints_s=(0.0, 0.001, 0.002, 0.02))
    policy = FixedPolicy(window=8, max_fed_hints=3, patience_s=0.0)
    on_line, on_corners, on_jump = (run_fast(policy, loop, coins(0.8), 600) for loop in (line, corners, jump))
    assert on_corners == on_line
    assert on_jump.time_per_token_s > on_line.time_per_token_s


def test_the_curve_is_that_of_the_passes_that_were_made() -> None:
    quiet = {1: 0.02, 2: 0.024, 4: 0.03, 8: 0.04}
    passes = [
        *(Step(0.0, 0.022 + 0.001 * (number == 0), 1) for number in range(9)),
        *(Step(0.0, 0.033, 4) for _ in range(8)),
        *(Step(0.0, 0.5, 2) for _ in range(7)),  # too few to tell
        *(Step(0.0, 0.2, 60) for _ in range(20)),  # prompts
    ]
    curve = served_curve(passes, quiet)
    assert curve == pytest.approx({1: 0.022, 2: 1.1 * 0.024, 4: 0.033, 8: 1.1 * 0.04})
    assert served_curve([], quiet) == quiet
    assert served_curve([], {1: 0.02, 2: 0.024, 4: 0.018, 8: 0.04}) == pytest.approx(
        {1: 0.019, 2: 0.021, 4: 0.021, 8: 0.04}
    )


def test_a_dear_question_is_longer_than_a_cheap_one() -> None:
    near = best_question(0.6, STEEP, rtt_s=0.0, draft_step_s=0.004)
    far = best_question(0.6, STEEP, rtt_s=0.4, draft_step_s=0.004)
    assert near < far


def the_block(target: SyntheticTarget, draft: SyntheticDraft, steps: list[Step]) -> pair.Block:
    """Four prompts under all policies, in virtual time."""

    async def main() -> pair.Block:
        listener = MemoryListener()

        async def dial() -> Link:
            return await listener.dial()

        edge = EdgeServer.of(target, PacedRunner(constant_cost(PASS_S)))
        async with edge:
            edge.listen(listener)
            courses = {
                "cloud": pair.Course(policy=Policy.cloud()),
                "hint_driven": pair.Course(policy=Policy.adaptive()),
                "ask_and_wait": pair.Course(policy=Policy.ask_and_wait(3), every=2),
            }
            return await pair.run_block(
                dial,
                draft,
                [[1 + number, 2, 3] for number in range(5)],
                courses,
                rtt_s=0.0,
                temperature=0.8,
                num_tokens=40,
                runner=WatchedRunner(PacedRunner(constant_cost(STEP_S)), steps.append),
            )

    return run_virtual(main(), limit_s=600)


def test_a_block_runs_every_policy_on_the_same_prompts() -> None:
    target = SyntheticTarget(seed=4)
    steps: list[Step] = []
    block = the_block(target, SyntheticDraft(target, agreement=0.7, seed=5), steps)
    assert {name: sorted(runs) for name, runs in block.runs.items()} == {
        "cloud": [1, 2, 3, 4],
        "hint_driven": [1, 2, 3, 4],
        "ask_and_wait": [2, 4],
    }
    for number, run in block.runs["cloud"].items():
        assert run.sampling == Sampling(temperature=0.8, seed=1 + number)
        assert all(runs[number].tokens == run.tokens for runs in block.runs.values() if number in runs)
        assert run.ended_s - run.began_s == pytest.approx(40 * PASS_S, rel=0.01)
    assert all(time_s == pytest.approx(PASS_S, rel=1e-3) for time_s in block.times_s("cloud"))
    assert max(block.ratios("hint_driven", "cloud")) < 1
    assert len(block.ratios("ask_and_wait", "cloud")) == 2
    assert min(block.known("hint_driven", "tokens_per_pass")) > 1
    assert all(step.seconds == pytest.approx(STEP_S) for step in steps)


def test_a_row_tells_what_was_measured_foretold_and_brought() -> None:
    target = SyntheticTarget(seed=4)
    draft = SyntheticDraft(target, agreement=0.7, seed=5)
    steps: list[Step] = []
    block = the_block(target, draft, steps)
    passes = [
        Step(run.began_s + number * PASS_S, PASS_S - 0.001, 1)
        for run in block.runs["cloud"].values()
        for number in range(40)
    ]
    measured, shown = bench._measured(block, passes, steps, FLAT)
    assert measured.plain_s == pytest.approx(PASS_S)
    assert shown["between_passes_ms"] == pytest.approx(1, abs=0.01)  # what plain streaming takes on top
    assert measured.of_pass_s(1) == pytest.approx(PASS_S + 0.001)  # of hinted passes there is no record here
    assert measured.draft_step_s == pytest.approx(STEP_S)
    texts = bench._texts(draft, block)
    row = bench._row(block, num_asked=3) | bench._forecast(block, bench._recording(draft, texts), costs())
    agreements = [prompt["agreement"] for prompt in row["prompts"]]
    assert sum(agreements) / 4 == pytest.approx(row["agreement"], abs=1e-3)
    assert 1 / row["gain"] == pytest.approx(row["hint_driven_by_cloud"], rel=0.05)
    # No time goes astray in virtual time: both forecasts are near what came of it.
    assert row["gain_in_virtual_time"] == pytest.approx(row["gain"], rel=0.1)
    assert row["expected_gain"] == pytest.approx(row["gain"], rel=0.15)
    assert [must["holds"] for must in bench._musts([row], is_busy=False)] == [True, True]
    assert row["gain_by_expected"] == pytest.approx(row["gain"] / row["expected_gain"], rel=2e-3)
    fallen = row | {"gain_by_expected": 0.8, "hint_driven_by_cloud": 1.1}
    assert [must["holds"] for must in bench._musts([fallen], is_busy=False)] == [False, False]


def test_steps_belong_to_the_run_in_which_they_began() -> None:
    target = SyntheticTarget(seed=4)
    steps: list[Step] = []
    block = the_block(target, SyntheticDraft(target, agreement=0.7, seed=5), steps)
    runs = block.runs["hint_driven"]
    inside = bench._during(runs, steps)
    asked = bench._during(block.runs["ask_and_wait"], steps)
    assert sum(run.summary.num_drafted for run in runs.values()) <= len(inside) <= len(steps) - len(asked)
    assert not set(inside) & set(asked)
    assert not bench._during(block.runs["cloud"], steps)
    assert all(any(run.began_s <= step.began_s <= run.ended_s for run in runs.values()) for step in inside)


def test_the_same_texts_once_more_in_virtual_time() -> None:
    target = SyntheticTarget(seed=4)
    draft = SyntheticDraft(target, agreement=0.7, seed=5)
    block = the_block(target, draft, [])
    texts = tuple(judged(draft, one.prompt, one.tokens, one.sampling) for one in block.runs["cloud"].values())
    assert 0.5 < sum(sum(text.is_right) for text in texts) / 160 < 0.9
    recording = Recording(
        target="t", draft="d", vocab_size=64, vocab_fingerprint=draft.vocab_fingerprint, texts=texts
    )
    plain = times_in_virtual_time_s(recording, costs(), Policy.cloud())
    hinted = times_in_virtual_time_s(recording, costs(), Policy.adaptive())
    assert plain == pytest.approx([PASS_S] * 4, rel=1e-3)
    assert hinted == pytest.approx(block.times_s("hint_driven"), rel=0.25)


def test_notes_of_an_edge_are_read_while_it_writes(tmp_path: Path) -> None:
    notes = tmp_path / "passes"
    notes.write_text("1.500000 0.020000 1\n1.530000 0.024000 3\n1.5600", encoding="ascii")
    assert WatchedEdge("ws://nowhere", notes).passes() == [Step(1.5, 0.02, 1), Step(1.53, 0.024, 3)]


def test_a_watched_runner_notes_how_long_its_steps_take() -> None:
    steps: list[Step] = []
    runner = WatchedRunner(PacedRunner(lambda rows: 0.01 * rows), steps.append)

    async def main() -> str:
        await asyncio.sleep(1)
        return await runner.run(lambda: "done", rows=3)

    assert run_virtual(main(), limit_s=10) == "done"
    [step] = steps
    assert step.seconds == pytest.approx(0.03)
    assert step.rows == 3


def test_one_core_is_not_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3}, raising=False)
    with pytest.raises(CascadeError, match="a core each"):
        cores.two_cores()
    monkeypatch.delattr(os, "sched_setaffinity", raising=False)
    with pytest.raises(CascadeError, match="Linux"):
        cores.two_cores()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs Linux")
def test_pinning_ends_as_it_began() -> None:
    before = os.sched_getaffinity(0)
    with cores.pinned(min(before)):
        assert os.sched_getaffinity(0) == {min(before)}
    assert os.sched_getaffinity(0) == before


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs Linux")
def test_an_edge_that_does_not_start_says_how_to_find_out() -> None:
    edge = cores.real_edge("no-such-model", "int8", min(os.sched_getaffinity(0)))
    with pytest.raises(CascadeError, match="cascade serve --model no-such-model"), edge:
        raise AssertionError("it started")
    watched = watched_edge("no-such-model", "int8", min(os.sched_getaffinity(0)))
    with pytest.raises(CascadeError, match="cascade serve --model no-such-model"), watched:
        raise AssertionError("it started")
