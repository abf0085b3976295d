"""Routes: which way an answer takes, that the books hold whatever it is, and what it costs in the end."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from cascade.decoding import Sampling
from cascade.device import Device, Ledger, Policy, Prices
from cascade.device.router import Outcome, Question, Route, Router
from cascade.edge import EdgeServer
from cascade.errors import SettingsError
from cascade.events import Source
from cascade.lab.promise import own_picks
from cascade.lab.routing import PHASES, Books, route_always, route_by_itself
from cascade.links.base import Link
from cascade.measure import Knowledge
from cascade.models.synthetic import BetaAgreement
from cascade.prices import Usage
from cascade.testing import (
    Conditions,
    EmulatedLink,
    MemoryListener,
    PacedRunner,
    SyntheticDraft,
    SyntheticTarget,
)
from tests.helpers import in_virtual_time

PROMPT = [1, 2, 3]
TARGET = SyntheticTarget()
ALL = [Route.CLOUD, Route.LOSSLESS, Route.CASCADE, Route.DEVICE]


@asynccontextmanager
async def device(
    *, agreement: float = 0.9, has_draft: bool = True, ledger: Ledger | None = None, rtt_s: float = 0.04
) -> AsyncGenerator[Device, None]:
    listener = MemoryListener()
    way = Conditions(delay_s=rtt_s / 2)

    async def dial() -> Link:
        return EmulatedLink(await listener.dial(), up=way, down=way)

    chances = BetaAgreement(mean=agreement, concentration=2)
    draft = SyntheticDraft(TARGET, agreement=chances) if has_draft else None
    runner = PacedRunner(lambda rows: 0.005) if has_draft else None
    async with EdgeServer.of(TARGET, PacedRunner(lambda rows: 0.05)) as edge:
        edge.listen(listener)
        async with Device([dial], draft=draft, runner=runner, seed=1, ledger=ledger) as made:
            yield made


def knowledge(*, rtt_s: float = 0.06, pass_s: float = 0.05, step_s: float = 0.005) -> Knowledge:
    known = Knowledge()
    known.link.add_round_trip(rtt_s, num_bytes=20)
    known.passes.add_said(pass_s, 0)
    known.draft_step_s.add(step_s)
    return known


def question(**facts: float) -> Question:
    plain: dict[str, float] = {
        "num_prompt_tokens": 10,
        "num_tokens": 50,
        "quality": 0.9,
        "agreement": 0.8,
        "balance": 1000,
    }
    return Question(**(plain | facts))  # type: ignore[arg-type]


# The choice


@pytest.mark.parametrize(
    ("prices", "facts", "way"),
    [
        (Prices(), {"quality": 1.0}, Route.LOSSLESS),
        (Prices(joule=5.0), {}, Route.CLOUD),
        (Prices(disputed=0.001), {}, Route.DEVICE),
        (Prices(edge_pass=10.0), {}, Route.DEVICE),
        (Prices(disputed=10.0), {"balance": 2.0}, Route.LOSSLESS),
    ],
)
def test_prices_decide(prices: Prices, facts: dict[str, float], way: Route) -> None:
    asked = question(**facts)
    ways = [Route.CLOUD, Route.LOSSLESS] if asked.quality == 1 else ALL
    assert Router(knowledge()).choose(asked, ways, prices) is way


def test_hard_texts_are_left_to_the_edge_where_drafting_costs() -> None:
    router, prices = Router(knowledge()), Prices(joule=0.5)
    ways = [Route.CLOUD, Route.LOSSLESS]
    assert router.choose(question(agreement=0.95), ways, prices) is Route.LOSSLESS
    assert router.choose(question(agreement=0.2), ways, prices) is Route.CLOUD
    assert router.is_unsure(question(agreement=0.7), ways, prices)
    assert not router.is_unsure(question(), [Route.CLOUD], prices)


def test_who_knows_nothing_asks_the_edge() -> None:
    router = Router(Knowledge())
    assert router.choose(question(), ALL, Prices()) is Route.LOSSLESS
    assert router.choose(question(), [Route.CLOUD], Prices()) is Route.CLOUD


def test_a_dead_edge_is_not_waited_for_where_the_draft_may_answer() -> None:
    gone = dataclasses.replace(question(), is_edge_there=False)
    prices = Prices(disputed=0.3)
    assert Router(knowledge()).choose(question(), ALL, prices) is not Route.DEVICE
    assert Router(knowledge()).choose(gone, ALL, prices) is Route.DEVICE


def outcome(usage: Usage, *, agreement: float | None = 0.8) -> Outcome:
    return Outcome(took=usage, first_s=0.11, num_tokens=50, agreement=agreement, said=None)


def test_what_an_answer_took_corrects_the_model_and_is_forgotten_again() -> None:
    router, prices, asked = Router(knowledge()), Prices(), question(quality=1.0)
    ways = [Route.CLOUD, Route.LOSSLESS]
    slow = Usage(waiting_s=4.0, num_passes=50, draft_s=1.0, num_drafted=200)
    before = router.cost(Route.LOSSLESS, asked, prices)
    for _ in range(6):
        router.learn(Route.LOSSLESS, asked, prices, outcome(slow))
    assert router.cost(Route.LOSSLESS, asked, prices) > 1.5 * before
    assert router.choose(asked, ways, prices) is Route.CLOUD
    fast = Usage(waiting_s=1.5, num_passes=30, draft_s=1.0, num_drafted=200)
    for _ in range(20):
        router.learn(Route.LOSSLESS, asked, prices, outcome(fast))
    assert router.choose(asked, ways, prices) is Route.LOSSLESS


def test_what_nobody_audits_goes_where_it_saves_most() -> None:
    """Of two kinds of questions the draft alone answers those that are dear elsewhere, if it cannot all."""
    router, prices = Router(knowledge()), Prices(disputed=0.001)
    dear = question(num_prompt_tokens=4000, num_tokens=20, balance=10)
    cheap = question(balance=10)
    for number in range(24):
        router.learn(Route.CLOUD, dear if number % 2 else cheap, prices, outcome(Usage(waiting_s=2.5)))
        router.note(dear if number % 6 == 0 else cheap, ALL, prices)
    for number in range(20):  # reading takes its time
        facts = dataclasses.replace(outcome(Usage(waiting_s=2.5)), first_s=0.1 + 2.0 * (number % 2))
        router.learn(Route.CLOUD, dear if number % 2 else cheap, prices, facts)
    assert router.choose(dear, ALL, prices) is Route.DEVICE
    assert router.choose(cheap, ALL, prices) is not Route.DEVICE
    assert router.choose(dataclasses.replace(cheap, balance=3000), ALL, prices) is Route.DEVICE


def test_a_draft_is_believed_as_far_as_it_was_right() -> None:
    router = Router(knowledge())
    for number in range(40):
        said = 0.9 if number % 2 else 0.5
        facts = dataclasses.replace(outcome(Usage(), agreement=said - 0.1), said=said)
        router.learn(Route.LOSSLESS, question(), Prices(), facts)
    assert router.expected_agreement(0.9) == pytest.approx(0.8, abs=0.03)
    assert router.expected_agreement(0.5) == pytest.approx(0.4, abs=0.03)
    assert router.expected_agreement(None) == pytest.approx(0.6, abs=0.03)


# The streams


@pytest.mark.parametrize("route", ["lossless", "cloud", "auto"])
@in_virtual_time
async def test_at_quality_1_every_way_gives_the_same_text(route: str) -> None:
    async with device() as made:
        plain = await made.generate(PROMPT, max_new_tokens=40)
        routed = await made.generate(PROMPT, max_new_tokens=40, route=route)
    assert routed.tokens == plain.tokens
    assert plain.summary.route == ""
    assert routed.summary.route in ("lossless", "cloud")
    assert routed.summary.num_tokens == 40
    assert f"route {routed.summary.route}" in str(routed.summary)


@in_virtual_time
async def test_the_draft_alone_needs_room_in_the_ledger_and_takes_it() -> None:
    ledger = Ledger()
    async with device(ledger=ledger, agreement=0.5) as made:
        with pytest.raises(SettingsError, match="room"):
            await made.generate(PROMPT, max_new_tokens=20, quality=0.9, route="device")
        await made.generate(PROMPT, max_new_tokens=250, quality=0.9, route="lossless")
        stream = made.stream(PROMPT, max_new_tokens=20, quality=0.9, route="device")
        tokens = []
        async for token in stream:
            account = made.account(0.9)
            assert account.least_quality >= 0.9
            tokens.append(token)
        assert stream.summary.bytes_up == 0
        assert {token.source for token in tokens} == {Source.KEPT}
        account = made.account(0.9)
        assert (account.num_disputed, account.num_unaudited, account.num_delivered) == (20, 0, 20)
        with pytest.raises(SettingsError, match="room"):
            await made.generate(PROMPT, max_new_tokens=20, quality=0.9, route="device")


@in_virtual_time
async def test_what_was_reserved_and_not_said_is_given_back() -> None:
    ledger = Ledger()
    ledger.note_lossless(1000)
    async with device(ledger=ledger) as made:
        stream = made.stream(PROMPT, max_new_tokens=80, quality=0.9, route="device")
        async for _token in stream:
            if len(stream.tokens) == 5:
                break
        await stream.join()
        account = made.account(0.9)
        assert stream.summary.finish_reason == "cancelled"
        assert (account.num_unaudited, account.num_disputed) == (0, account.num_delivered)
        assert 5 <= account.num_disputed <= 6
        stream = made.stream(PROMPT, max_new_tokens=80, quality=0.9, route="device")
        stream.cancel()  # before its way was chosen
        await stream.join()
        assert made.account(0.9) == account


@in_virtual_time
async def test_a_ledger_whose_file_does_not_come_along_affords_nothing() -> None:
    ledger = Ledger(Path("/nowhere/ledger.json"))
    ledger.open = _no_file  # type: ignore[method-assign]
    ledger.close = _no_file  # type: ignore[method-assign]
    ledger.note_lossless(1000)
    async with device(ledger=ledger) as made:
        with pytest.raises(SettingsError, match="room"):
            await made.generate(PROMPT, max_new_tokens=20, quality=0.9, route="device")
        assert made.account(0.9).num_unaudited == 0


async def _no_file() -> None:
    """Neither read nor written."""


@in_virtual_time
async def test_without_a_draft_there_is_the_cloud() -> None:
    async with device(has_draft=False) as made:
        answer = await made.generate(PROMPT, max_new_tokens=10, quality=0.9, route="auto")
        assert answer.summary.route == "cloud"
        for route in ("device", "cascade", "lossless"):
            with pytest.raises(SettingsError) as caught:
                made.stream(PROMPT, max_new_tokens=10, quality=0.9, route=route)
            assert caught.value.field == "route"


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"route": "fast"}, "route"),
        ({"route": "cascade"}, "route"),  # at quality 1
        ({"route": "auto", "private": True}, "route"),
        ({"route": "auto", "policy": Policy.hint_driven()}, "policy"),
    ],
)
@in_virtual_time
async def test_what_cannot_be_is_refused(options: dict[str, object], field: str) -> None:
    async with device() as made:
        with pytest.raises(SettingsError) as caught:
            made.stream(PROMPT, max_new_tokens=10, **options)  # type: ignore[arg-type]
        assert caught.value.field == field


@pytest.mark.parametrize("after_s", [0.0, 0.012, 0.06, 0.5])
@in_virtual_time
async def test_a_stream_can_be_cancelled_at_any_time(after_s: float) -> None:
    async with device() as made:
        await made.generate(PROMPT, max_new_tokens=60, route="auto", quality=0.9)
        stream = made.stream(PROMPT, max_new_tokens=60, quality=0.9, route="auto", policy=unsure())
        await asyncio.sleep(after_s)
        stream.cancel()
        await stream.join()
        assert stream.is_settled
        assert [token async for token in stream] == [] or stream.tokens
        again = await made.generate(PROMPT, max_new_tokens=10, quality=0.9, route="auto")
        assert len(again.tokens) == 10


def unsure() -> Policy:
    return Policy.adaptive(Prices(joule=0.5))


@in_virtual_time
async def test_what_the_draft_read_for_the_choice_is_not_read_twice() -> None:
    async with device() as made:
        fed: list[int] = []
        await made.generate(PROMPT, max_new_tokens=20, route="auto")
        draft = made._running.equipment.model
        assert isinstance(draft, SyntheticDraft)
        forward: Callable[..., object] = draft.forward

        def counted(feeds: list) -> object:  # type: ignore[type-arg]
            fed.append(len(feeds[0].tokens))
            return forward(feeds)

        draft.forward = counted  # type: ignore[method-assign, assignment]
        answer = await made.generate(list(range(60)), max_new_tokens=20, route="auto", policy=unsure())
        assert sum(num > 50 for num in fed) == 1
        assert answer.summary.time_to_first_token_s > 0.09 + 4 * 0.005 - 1e-6


@in_virtual_time
async def test_a_conversation_takes_its_ways() -> None:
    async with device() as made:
        own = own_picks(TARGET, PROMPT, Sampling(), (await made.generate(PROMPT, max_new_tokens=30)).tokens)
        assert all(own)
        streams = [made.stream(PROMPT, max_new_tokens=20, quality=0.9, route="auto") for _ in range(5)]
        answers = await asyncio.gather(*(_read(stream) for stream in streams))
        assert [len(answer) for answer in answers] == [20] * 5


async def _read(stream: object) -> list[int]:
    return [token.id async for token in stream]  # type: ignore[attr-defined]


@in_virtual_time
async def test_a_kept_token_that_was_wrong_is_no_sign_of_agreement() -> None:
    """What is learnt of a text is the same whichever way it went."""
    learnt = {}
    for route in ("lossless", "cascade"):
        ledger = Ledger()
        ledger.note_lossless(2000)
        async with device(ledger=ledger, agreement=0.6, rtt_s=0.2) as made:
            for number in range(8):
                answer = await made.generate([number], max_new_tokens=100, quality=0.8, route=route)
            learnt[route] = made._running.router.expected_agreement(None)
    assert answer.summary.num_disputed > 5
    assert learnt["cascade"] == pytest.approx(learnt["lossless"], abs=0.06)


def test_the_draft_is_asked_where_its_word_decides_who_gets_the_places() -> None:
    """Alone it may answer a part of the hard texts; without a word from it these look like the others."""
    router, prices, ways = Router(knowledge()), Prices(edge_pass=0.2), [Route.LOSSLESS, Route.DEVICE]
    hard = question(agreement=0.45, balance=100)
    for _ in range(24):
        router.note(hard, ways, prices)
    assert router.is_unsure(question(balance=100), ways, prices)
    assert not router.is_unsure(question(balance=-1000), ways, prices)  # there are no places at all


def test_of_equal_questions_so_many_go_to_the_draft_as_the_ledger_affords() -> None:
    router, prices, ways = Router(knowledge()), Prices(edge_pass=0.2), [Route.LOSSLESS, Route.DEVICE]
    asked = question(balance=0)
    chosen = []
    for _ in range(200):
        router.note(asked, ways, prices)
        chosen.append(router.choose(asked, ways, prices))
    assert chosen.count(Route.DEVICE) == pytest.approx(200 * (1 - asked.quality), abs=2)


# What it costs


def test_close_to_the_best_way_in_hindsight() -> None:
    """Two phases of `cascade bench router`, shorter: no way taken always is clearly better."""
    num_requests = 20
    found = route_by_itself(num_requests=num_requests, phases=PHASES[:2], seed=3)
    books = [Books(), found[0].books]
    for number, ours in enumerate(found):
        rivals = [
            route_always(way, number, books[number], num_requests=num_requests, seed=3) for way in Route
        ]
        assert len({len(each.asked) for each in [ours, *rivals]}) == 1
        assert ours.cost <= 1.1 * min(rival.cost for rival in rivals)
