"""An emulated link at work, in virtual time: who waits, what is logged, what a change does."""

from __future__ import annotations

import asyncio

import pytest

from cascade.errors import LinkClosed, SettingsError
from cascade.links.base import Link
from cascade.links.conditions import Conditions
from cascade.links.credit import Credit
from cascade.links.emulated import EmulatedLink
from cascade.links.lane import Lane
from cascade.links.memory import memory_pair
from cascade.links.profiles import load_profile
from cascade.links.records import Record
from cascade.testing import run_virtual

from ..helpers import in_virtual_time


def now_s() -> float:
    return asyncio.get_running_loop().time()


async def receive_all(link: Link) -> list[tuple[float, bytes]]:
    """Everything that comes until the link is gone, and when."""
    received: list[tuple[float, bytes]] = []
    try:
        while True:
            received.append((now_s(), await link.receive()))  # noqa: RUF100
    except LinkClosed:
        return received


# Who waits


@in_virtual_time
async def test_a_streams_sender_waits_for_room_in_the_queue() -> None:
    device, edge = memory_pair()
    link = EmulatedLink(device, up=Conditions(rate_bytes_per_s=1000, queue_bytes=1000))
    accepted_s: list[float] = []
    for _ in range(5):
        await link.send(bytes(400))
        accepted_s.append(now_s())
    assert accepted_s == pytest.approx([0, 0, 0.4, 0.8, 1.2])
    assert link.state[0].queue_bytes == 800 + 400 - 400
    for number in range(5):
        await edge.receive()
        assert now_s() == pytest.approx(max(1.2, 0.4 * (number + 1)))
    await link.close()


@in_virtual_time
async def test_the_other_direction_is_held_as_well() -> None:
    """The edge feels it: nothing is read from the link below while the queue is full."""
    device, edge = memory_pair()
    link = EmulatedLink(device, down=Conditions(rate_bytes_per_s=1000, queue_bytes=1000))
    num_sent = 0

    async def flood() -> None:
        nonlocal num_sent
        while True:
            await edge.send(bytes(500))
            num_sent += 1

    task = asyncio.create_task(flood())
    await asyncio.sleep(10)
    assert num_sent <= 1024 + 2 + 20 + 1  # the memory link's own queue, ours, and ten seconds' worth
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await link.close()


@in_virtual_time
async def test_what_is_larger_than_the_queue_passes_when_it_is_empty() -> None:
    device, edge = memory_pair()
    link = EmulatedLink(device, up=Conditions(rate_bytes_per_s=1000, queue_bytes=100))
    await link.send(bytes(50))
    await link.send(bytes(1000))
    assert now_s() == pytest.approx(0.05)
    assert len(await edge.receive()) == 50
    assert len(await edge.receive()) == 1000
    assert now_s() == pytest.approx(1.05)
    await link.close()


@in_virtual_time
async def test_a_stream_loses_nothing_when_its_reader_stands_still() -> None:
    device, edge = memory_pair()
    link = EmulatedLink(device)
    count = 40_000  # more than the window and the link below hold

    async def flood() -> None:
        for number in range(count):
            await edge.send(b"%d" % number)

    task = asyncio.create_task(flood())
    await asyncio.sleep(5)
    assert not task.done()
    assert [int(await link.receive()) for _ in range(count)] == list(range(count))
    await task
    assert link.num_dropped == 0
    await link.close()


@in_virtual_time
async def test_datagrams_are_dropped_when_the_reader_stands_still() -> None:
    device, edge = memory_pair()
    records: list[Record] = []
    link = EmulatedLink(device, is_reliable=False, on_record=records.append)
    for number in range(5000):
        await edge.send(b"%d" % number)
        await asyncio.sleep(0.001)
    assert link.num_dropped == 5000 - 4096
    assert [r.drop for r in records if r.drop] == ["reader slow"] * (5000 - 4096)
    await link.close()


@pytest.mark.parametrize("who", ["sender", "reader"])
@in_virtual_time
async def test_closing_wakes_those_who_wait(who: str) -> None:
    device, edge = memory_pair()
    link = EmulatedLink(device, up=Conditions(rate_bytes_per_s=1, queue_bytes=1))
    await link.send(b"x")
    waiting = asyncio.create_task(link.send(b"y") if who == "sender" else edge_to_nowhere(link))
    await asyncio.sleep(0.1)
    await link.close()
    with pytest.raises(LinkClosed):
        await waiting
    await edge.close()


async def edge_to_nowhere(link: EmulatedLink) -> None:
    await link.receive()


@in_virtual_time
async def test_a_sender_that_gives_up_holds_nobody() -> None:
    device, edge = memory_pair()
    link = EmulatedLink(device, up=Conditions(rate_bytes_per_s=10, queue_bytes=10))
    await link.send(bytes(10))
    first, second = asyncio.create_task(link.send(bytes(5))), asyncio.create_task(link.send(bytes(6)))
    await asyncio.sleep(0.1)
    first.cancel()
    await second
    assert [len(await edge.receive()) for _ in range(2)] == [10, 6]
    await link.close()


@in_virtual_time
async def test_credit_is_given_first_come_first_served() -> None:
    credit = Credit(10)
    got: list[int] = []

    async def take(amount: int) -> None:
        await credit.take(amount)
        got.append(amount)

    tasks = [asyncio.create_task(take(amount)) for amount in (6, 5, 1, 99)]
    await asyncio.sleep(0)
    assert got == [6], "the small one does not overtake"
    credit.give(6)
    await asyncio.sleep(1)
    assert got == [6, 5, 1]
    credit.give(6)
    await asyncio.sleep(1)
    assert got == [6, 5, 1, 99], "what is larger than everything passes alone"
    waiting = asyncio.create_task(credit.take(1))
    await asyncio.sleep(0)
    credit.close()
    with pytest.raises(LinkClosed):
        await waiting
    await asyncio.gather(*tasks)


# What closing does


@pytest.mark.parametrize("is_reliable", [False, True])
@in_virtual_time
async def test_what_was_under_way_arrives_before_the_news_that_the_edge_hung_up(is_reliable: bool) -> None:
    device, edge = memory_pair()
    link = EmulatedLink(device, down=Conditions(delay_s=0.3), is_reliable=is_reliable)
    await edge.send(b"you are refused")
    await asyncio.sleep(0.1)
    await edge.close()
    assert await link.receive() == b"you are refused"
    assert now_s() == pytest.approx(0.3)
    with pytest.raises(LinkClosed):
        await link.receive()
    assert now_s() == pytest.approx(0.4)
    await link.close()


# Conditions that change


@in_virtual_time
async def test_other_conditions_hold_for_what_is_sent_from_now_on() -> None:
    device, edge = memory_pair()
    link = EmulatedLink(device, up=Conditions(delay_s=0.5))
    await link.send(b"slow")
    link.change(up=Conditions(delay_s=0.1), down=Conditions())
    await link.send(b"fast, but behind it")
    assert await edge.receive() == b"slow"
    assert await edge.receive() == b"fast, but behind it"
    assert now_s() == pytest.approx(0.5)
    await link.send(b"fast")
    await edge.receive()
    assert now_s() == pytest.approx(0.6)
    await link.close()


@in_virtual_time
async def test_a_faster_link_lets_a_waiting_sender_go() -> None:
    device, _edge = memory_pair()
    link = EmulatedLink(device, up=Conditions(rate_bytes_per_s=1, queue_bytes=10))
    await link.send(bytes(10))
    waiting = asyncio.create_task(link.send(bytes(10)))
    await asyncio.sleep(0.5)
    assert not waiting.done()
    link.change(up=Conditions(), down=Conditions())
    link.change(up=Conditions(queue_bytes=100), down=Conditions())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert waiting.done()
    await link.close()
    with pytest.raises(SettingsError, match="loss: must be below 1"):
        link.change(up=Conditions(loss=1), down=Conditions())


@in_virtual_time
async def test_a_cut_stops_a_stream_and_loses_nothing() -> None:
    device, edge = memory_pair()
    link = EmulatedLink(device, up=Conditions(delay_s=0.2, rate_bytes_per_s=100))
    await link.send(bytes(10))  # 0.1 s for its bytes, 0.2 s on the way
    await asyncio.sleep(0.05)
    link.cut(5)
    await link.send(bytes(10))
    assert link.state[0].is_out
    link.cut(3)  # within the other: changes nothing
    await edge.receive()
    assert now_s() == pytest.approx(5.3)
    await edge.receive()
    assert now_s() == pytest.approx(5.4)
    assert not link.state[0].is_out
    await link.send(bytes(10))
    await edge.receive()
    assert now_s() == pytest.approx(5.7)
    await link.close()


@in_virtual_time
async def test_a_cut_loses_datagrams() -> None:
    device, edge = memory_pair()
    link = EmulatedLink(device, is_reliable=False)
    link.cut(1)
    await link.send(b"lost")
    await asyncio.sleep(1)
    await link.send(b"found")
    assert await edge.receive() == b"found"
    await link.close()


@in_virtual_time
async def test_the_state_now() -> None:
    device, _edge = memory_pair()
    up = Conditions(delay_s=0.1, jitter_s=0.05, rate_bytes_per_s=1000, outages=((2, 3),))
    link = EmulatedLink(device, up=up)
    await link.send(bytes(500))
    state = link.state[0]
    assert state.delay_s == pytest.approx(0.65)
    assert (state.rate_bytes_per_s, state.queue_bytes, state.is_out) == (1000, 500, False)
    await asyncio.sleep(2.5)
    state = link.state[0]
    assert state.delay_s == pytest.approx(0.15)
    assert (state.queue_bytes, state.is_out) == (0, True)
    await link.close()


# The log


def log_of_a_run(seed: int, *, is_reliable: bool, profile: str = "lossy-wifi") -> list[str]:
    lines: list[str] = []

    async def run() -> None:
        conditions = load_profile(profile)
        device, edge = memory_pair()
        link = EmulatedLink(
            device,
            up=conditions.up,
            down=conditions.down,
            seed=seed,
            is_reliable=is_reliable,
            on_record=lambda record: lines.append(record.as_json()),
        )
        readers = [asyncio.create_task(receive_all(end)) for end in (link, edge)]
        for number in range(200):
            await link.send(bytes(number))
            await edge.send(bytes(2 * number))
            await asyncio.sleep(0.013)
        await asyncio.sleep(1)
        await link.close()
        await edge.close()
        await asyncio.gather(*readers)

    run_virtual(run(), limit_s=1000)
    return lines


@pytest.mark.parametrize("is_reliable", [False, True])
def test_the_same_seed_gives_the_same_log(is_reliable: bool) -> None:
    log = log_of_a_run(7, is_reliable=is_reliable)
    assert log == log_of_a_run(7, is_reliable=is_reliable)
    assert log != log_of_a_run(8, is_reliable=is_reliable)


def test_every_message_is_in_the_log_once() -> None:
    import json

    records = [json.loads(line) for line in log_of_a_run(7, is_reliable=False)]
    assert len(records) == 400
    up = [record for record in records if record["way"] == "up"]
    assert sorted(record["bytes"] for record in up) == list(range(200))
    lost = [record for record in records if "dropped" in record]
    assert {record["dropped"] for record in lost} == {"lost"}
    assert all(("arrived_s" in record) != ("dropped" in record) for record in records)
    assert all(record["arrived_s"] > record["sent_s"] for record in records if "arrived_s" in record)
    stream = [json.loads(line) for line in log_of_a_run(7, is_reliable=True)]
    assert not any("dropped" in record for record in stream)
    assert any(record.get("stalled_s", 0) >= 0.2 for record in stream)


@in_virtual_time
async def test_what_was_under_way_at_the_end_is_logged_as_lost() -> None:
    records: list[Record] = []
    device, _edge = memory_pair()
    link = EmulatedLink(device, up=Conditions(delay_s=1), on_record=records.append)
    await link.send(b"abc")
    await link.close()
    assert [(record.num_bytes, record.drop, record.arrived_s) for record in records] == [
        (3, "link closed", None)
    ]


@in_virtual_time
async def test_equal_arrivals_come_in_the_order_of_sending() -> None:
    """Also where the loop's own timers promise no order."""
    lane = Lane("up", Conditions(delay_s=0.1), seed=0, is_reliable=True)
    arrived: list[int] = []

    def deliver(number: int) -> bool:
        arrived.append(number)
        return True

    for number in range(100):
        await lane.send(1, lambda number=number: deliver(number))  # type: ignore[misc]
    await asyncio.sleep(0.2)
    assert arrived == list(range(100))
    assert lane.num_delivered_bytes == 100


@in_virtual_time
async def test_a_lane_made_late_delivers_in_time() -> None:
    """The sum and the difference of two clocks may be a hair apart: nobody waits for ever for that."""
    await asyncio.sleep(123.456)
    lane = Lane("up", Conditions(delay_s=0.1, jitter_s=0.01), seed=3, is_reliable=True)
    for _ in range(1000):
        await lane.send(1, lambda: True)
        await asyncio.sleep(0.003)
    await asyncio.sleep(1)
    assert lane.num_delivered_bytes == 1000
