"""Inboxes, memory links, and links made worse on purpose."""

from __future__ import annotations

import asyncio
import math

import pytest

from cascade.errors import LinkClosed, LinkUnavailable, SettingsError
from cascade.links.conditions import Conditions
from cascade.links.emulated import EmulatedLink
from cascade.links.inbox import Inbox
from cascade.links.memory import MemoryListener, memory_pair
from cascade.links.shaper import Shaper

from ..helpers import in_virtual_time

# Inbox


@in_virtual_time
async def test_an_inbox_keeps_order_and_bounds() -> None:
    inbox: Inbox[int] = Inbox(3)
    assert [inbox.offer(number) for number in range(5)] == [True, True, True, False, False]
    assert len(inbox) == 3
    assert [await inbox.get() for _ in range(3)] == [0, 1, 2]


@in_virtual_time
async def test_put_waits_for_room_and_get_for_an_item() -> None:
    inbox: Inbox[int] = Inbox(2)
    writers = [asyncio.create_task(inbox.put(number)) for number in range(6)]
    await asyncio.sleep(1)
    assert [writer.done() for writer in writers] == [True, True, False, False, False, False]
    assert [await inbox.get() for _ in range(6)] == list(range(6))
    reader = asyncio.create_task(inbox.get())
    await asyncio.sleep(1)
    assert not reader.done()
    inbox.offer(9)
    assert await reader == 9
    await asyncio.gather(*writers)


@in_virtual_time
async def test_a_closed_inbox_is_read_to_its_end() -> None:
    inbox: Inbox[int] = Inbox(2)
    await inbox.put(1)
    await inbox.put(2)
    waiting = asyncio.create_task(inbox.put(3))
    await asyncio.sleep(0)
    inbox.close()
    with pytest.raises(LinkClosed):
        await waiting
    assert not inbox.offer(4)
    assert [await inbox.get(), await inbox.get()] == [1, 2]
    with pytest.raises(LinkClosed):
        await inbox.get()
    inbox.close()


@in_virtual_time
async def test_closing_wakes_the_reader() -> None:
    inbox: Inbox[int] = Inbox(1)
    reader = asyncio.create_task(inbox.get())
    await asyncio.sleep(0)
    inbox.close()
    with pytest.raises(LinkClosed):
        await reader


@pytest.mark.parametrize("is_woken_first", [False, True])
@in_virtual_time
async def test_a_writer_that_gives_up_takes_nobody_elses_place(is_woken_first: bool) -> None:
    inbox: Inbox[int] = Inbox(1)
    await inbox.put(0)
    gives_up = asyncio.create_task(inbox.put(1))
    waits = asyncio.create_task(inbox.put(2))
    await asyncio.sleep(0)
    if not is_woken_first:
        gives_up.cancel()
        await asyncio.sleep(0)
    assert await inbox.get() == 0
    gives_up.cancel()
    assert await asyncio.wait_for(inbox.get(), 1) == 2
    await waits


@in_virtual_time
async def test_a_cancelled_reader_loses_no_item() -> None:
    inbox: Inbox[int] = Inbox(1)
    reader = asyncio.create_task(inbox.get())
    await asyncio.sleep(0)
    inbox.offer(5)
    reader.cancel()
    await asyncio.gather(reader, return_exceptions=True)
    assert await inbox.get() == 5


# Memory links


@in_virtual_time
async def test_a_memory_link_carries_bytes_both_ways() -> None:
    listener = MemoryListener("here")
    device = await listener.dial("phone")
    edge = await listener.accept()
    assert (device.peer, edge.peer) == ("here", "phone")
    await device.send(b"up")
    await edge.send(b"down")
    assert (await edge.receive(), await device.receive()) == (b"up", b"down")


@pytest.mark.parametrize("closer", [0, 1])
@in_virtual_time
async def test_both_ends_see_the_close_and_what_came_before(closer: int) -> None:
    ends = memory_pair()
    await ends[closer].send(b"last")
    await ends[closer].close()
    await ends[closer].close()
    assert await ends[1 - closer].receive() == b"last"
    for end in ends:
        with pytest.raises(LinkClosed):
            await end.receive()
        with pytest.raises(LinkClosed):
            await end.send(b"too late")


@in_virtual_time
async def test_a_full_memory_link_makes_its_sender_wait() -> None:
    device, edge = memory_pair()
    sending = asyncio.create_task(_send_many(device.send, 5000))
    await asyncio.sleep(1)
    assert not sending.done()
    for number in range(5000):
        assert await edge.receive() == b"%d" % number
    await sending


@in_virtual_time
async def test_nobody_listens() -> None:
    listener = MemoryListener()
    waiting = await listener.dial()
    await listener.close()
    with pytest.raises(LinkClosed):
        await waiting.receive()
    with pytest.raises(LinkUnavailable):
        await listener.dial()
    with pytest.raises(LinkClosed):
        await listener.accept()


async def _send_many(send, count: int) -> None:  # type: ignore[no-untyped-def]
    for number in range(count):
        await send(b"%d" % number)


# Shaper


def shaper(*, seed: int = 1, is_reliable: bool = False, **conditions: object) -> Shaper:
    return Shaper(Conditions(**conditions), seed=seed, is_reliable=is_reliable)  # type: ignore[arg-type]


def test_a_plain_link_delivers_at_once() -> None:
    assert shaper().take(3.0, 100).arrivals_s == (3.0,)


@pytest.mark.parametrize("is_reliable", [False, True])
def test_delay_and_rate_add_up(is_reliable: bool) -> None:
    link = shaper(delay_s=0.1, rate_bytes_per_s=1000.0, is_reliable=is_reliable)
    assert link.take(0.0, 500).arrivals_s == pytest.approx((0.6,))
    assert link.take(0.0, 500).arrivals_s == pytest.approx((1.1,))  # behind the first
    assert link.take(5.0, 100).arrivals_s == pytest.approx((5.2,))  # the queue is empty again


def test_a_full_queue_drops_and_an_emptied_one_does_not() -> None:
    link = shaper(rate_bytes_per_s=1000.0, queue_bytes=1000)
    arrivals = [link.take(0.0, 400).arrivals_s for _ in range(4)]
    assert arrivals[:2] == [(0.4,), (0.8,)]
    assert arrivals[2:] == [(), ()]
    assert (link.num_sent, link.num_dropped) == (4, 2)
    assert link.take(0.5, 400).arrivals_s == pytest.approx((1.2,))


@pytest.mark.parametrize("chance", [0.05, 0.3, 0.9])
@pytest.mark.parametrize("kind", ["loss", "duplication", "reordering"])
def test_chances_are_as_stated(kind: str, chance: float) -> None:
    """Within three standard errors."""
    count = 20_000
    link = {
        "loss": shaper(seed=5, loss=chance),
        "duplication": shaper(seed=5, duplication=chance),
        "reordering": shaper(seed=5, reordering=chance),
    }[kind]
    arrivals = [link.take(float(number), 10).arrivals_s for number in range(count)]
    if kind == "loss":
        num_hit = sum(not times for times in arrivals)
        assert link.num_dropped == num_hit
    elif kind == "duplication":
        num_hit = sum(len(times) == 2 for times in arrivals)
    else:
        num_hit = sum(times[0] > number for number, times in enumerate(arrivals))
    error = 3 * math.sqrt(chance * (1 - chance) / count)
    assert num_hit / count == pytest.approx(chance, abs=error)


def test_certain_loss_and_none() -> None:
    assert all(shaper(loss=1.0).take(0.0, 1).arrivals_s == () for _ in range(10))
    with pytest.raises(SettingsError, match="loss"):
        shaper(loss=1.0, is_reliable=True)


def test_jitter_has_its_mean_and_keeps_order() -> None:
    count = 20_000
    link = shaper(delay_s=0.1, jitter_s=0.02, seed=2)
    times = [link.take(float(number), 1).arrivals_s[0] - number for number in range(count)]
    assert min(times) >= 0.1
    assert sum(times) / count - 0.1 == pytest.approx(0.02, abs=3 * 0.02 / math.sqrt(count))
    close = shaper(delay_s=0.1, jitter_s=0.02, seed=2)
    arrivals = [close.take(number / 1000, 1).arrivals_s[0] for number in range(count)]
    assert arrivals == sorted(arrivals)


def test_reordering_lets_later_ones_overtake_but_not_by_more_than_said() -> None:
    link = shaper(delay_s=0.1, reordering=0.2, reordering_s=0.5, seed=3)
    arrivals = [link.take(number / 100, 1).arrivals_s[0] for number in range(2000)]
    assert arrivals != sorted(arrivals)
    late = [arrival - number / 100 - 0.1 for number, arrival in enumerate(arrivals)]
    assert min(late) >= -1e-9
    assert 0.4 < max(late) <= 0.5


def test_outages_let_nothing_through() -> None:
    link = shaper(outages=((1.0, 2.0), (3.0, 3.5)))
    through = [number / 10 for number in range(50) if link.take(number / 10, 1).arrivals_s]
    assert through == [n / 10 for n in range(50) if not 1 <= n / 10 < 2 and not 3 <= n / 10 < 3.5]


def test_a_reliable_stream_loses_nothing_and_keeps_order() -> None:
    link = shaper(is_reliable=True, delay_s=0.05, loss=0.3, duplication=1.0, reordering=1.0, seed=4)
    arrivals = [link.take(number / 10, 1).arrivals_s for number in range(2000)]
    assert all(len(times) == 1 for times in arrivals)
    flat = [times[0] for times in arrivals]
    assert flat == sorted(flat)
    assert link.num_dropped == 0
    num_late = sum(time > number / 10 + 0.05 + 1e-9 for number, time in enumerate(flat))
    assert num_late > 600, "a stall holds up what is behind it, too"


def test_a_reliable_stream_waits_for_the_end_of_an_outage() -> None:
    link = shaper(is_reliable=True, delay_s=0.1, outages=((1.0, 4.0),))
    assert link.take(0.5, 1).arrivals_s == pytest.approx((0.6,))
    (first,) = link.take(1.5, 1).arrivals_s
    assert 4.1 <= first <= 4.1 + 3.0
    assert link.take(2.0, 1).arrivals_s[0] >= first
    assert link.take(9.0, 1).arrivals_s == pytest.approx((9.1,))


@pytest.mark.parametrize("is_reliable", [False, True])
def test_equal_seeds_are_equal_and_others_are_not(is_reliable: bool) -> None:
    def run(seed: int) -> list[tuple[float, ...]]:
        link = shaper(
            seed=seed, is_reliable=is_reliable, jitter_s=0.1, loss=0.2, duplication=0.1, reordering=0.1
        )
        return [link.take(float(number), 5).arrivals_s for number in range(200)]

    assert run(7) == run(7)
    assert run(7) != run(8)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("delay_s", -1),
        ("jitter_s", math.nan),
        ("rate_bytes_per_s", 0),
        ("queue_bytes", 0),
        ("loss", 1.1),
        ("duplication", -0.1),
        ("reordering", 2),
        ("reordering_s", -1),
        ("outages", ((2.0, 1.0),)),
    ],
)
def test_impossible_conditions_are_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(SettingsError) as refused:
        Conditions(**{field: value})  # type: ignore[arg-type]
    assert refused.value.field == field


# EmulatedLink


@in_virtual_time
async def test_an_emulated_link_delays_both_ways_and_keeps_its_peer() -> None:
    device, edge = memory_pair(edge="there")
    link = EmulatedLink(device, up=Conditions(delay_s=0.2), down=Conditions(delay_s=0.3))
    loop = asyncio.get_running_loop()
    assert link.peer == "there"
    await link.send(b"up")
    assert loop.time() == 0, "sending does not wait for the way"
    assert await edge.receive() == b"up"
    assert loop.time() == pytest.approx(0.2)
    await edge.send(b"down")
    assert await link.receive() == b"down"
    assert loop.time() == pytest.approx(0.5)
    await link.close()


@in_virtual_time
async def test_an_emulated_link_drops_and_counts() -> None:
    device, edge = memory_pair()
    link = EmulatedLink(device, up=Conditions(loss=0.5), seed=1, is_reliable=False)
    for number in range(200):
        await link.send(b"%d" % number)
    await asyncio.sleep(1)
    await link.close()
    received = [int(await edge.receive()) for _ in range(200 - link.num_dropped)]
    with pytest.raises(LinkClosed):
        await edge.receive()
    assert received == sorted(received)
    assert 60 < link.num_dropped < 140


@pytest.mark.parametrize("closer", ["outer", "inner", "edge"])
@in_virtual_time
async def test_closing_an_emulated_link_ends_it_everywhere(closer: str) -> None:
    device, edge = memory_pair()
    link = EmulatedLink(device)
    await asyncio.sleep(0)
    await {"outer": link, "inner": device, "edge": edge}[closer].close()
    await asyncio.sleep(0)
    for end in (link, edge):
        with pytest.raises(LinkClosed):
            await end.receive()
    await asyncio.sleep(0)
    with pytest.raises(LinkClosed):
        await link.send(b"")
    await link.close()
