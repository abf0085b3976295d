"""A generation goes on when its link does not: half-open sockets, other addresses, edges that start again.

Over real sockets, through a proxy that misbehaves on purpose. How long a pause takes is not judged here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial

import pytest

from cascade import Device, EdgeServer, LinkUnavailable, Policy, Sampling
from cascade.device import ReconnectSettings
from cascade.edge import EdgeSettings
from cascade.links import websocket
from cascade.links.base import Dialer, Link
from cascade.links.profiles import load_profile
from cascade.links.proxy import LinkProxy
from cascade.links.websocket import WebSocketDialer, WebSocketListener
from cascade.testing import PacedRunner, SyntheticDraft, SyntheticTarget

from ..virtual.schedules import Ask, target_alone

NUM_TOKENS = 120
TARGET = SyntheticTarget(seed=21)
ASK = Ask((1, 2, 3), NUM_TOKENS, Sampling(temperature=1.0, seed=4), frozenset(), Policy.hint_driven())
FOR_EVER_S = 3600.0


@asynccontextmanager
async def edge_behind(*profiles: str) -> AsyncIterator[list[LinkProxy]]:
    """One edge, and a way to it for every profile."""
    runner = PacedRunner(lambda rows: 0.002)
    settings = EdgeSettings(run_ahead=8)  # an edge whose link is gone stops soon
    async with WebSocketListener() as listener, EdgeServer.of(TARGET, runner, settings=settings) as edge:
        edge.listen(listener)
        host, _, port = listener.url.removeprefix("ws://").partition("/")[0].partition(":")
        proxies = [LinkProxy((host, int(port)), profile=load_profile(name), seed=5) for name in profiles]
        for proxy in proxies:
            await proxy.__aenter__()
        try:
            yield proxies
        finally:
            for proxy in proxies:
                await proxy.__aexit__()


def dialer(proxy: LinkProxy) -> Dialer:
    return WebSocketDialer("ws://{}:{}".format(*proxy.address))


async def generate(
    dialers: list[Dialer], at: Mapping[int, Callable[[], object]], *, silent_s: float = 5.0
) -> int:
    """The text must be the target's own. `at` happens after so many tokens; returns the number of OPENs."""
    device = Device(
        dialers,
        draft=SyntheticDraft(TARGET, agreement=0.8),
        runner=PacedRunner(lambda rows: 0.0005),
        reconnect=ReconnectSettings(first_s=0.01, ceiling_s=0.05, silent_s=silent_s),
        seed=1,
    )
    async with device:
        stream = device.stream(ASK.prompt, max_new_tokens=NUM_TOKENS, temperature=1.0, seed=ASK.sampling.seed)
        tokens = []
        async for token in stream:
            tokens.append(token)
            at.get(len(tokens), lambda: None)()
        num_opens = stream.summary.num_opens
    assert [token.id for token in tokens] == target_alone(TARGET, ASK)
    assert [token.position for token in tokens] == list(range(3, 3 + NUM_TOKENS))
    return num_opens


async def test_an_outage_is_a_pause() -> None:
    async with edge_behind("lan") as (proxy,):
        num_opens = await generate([dialer(proxy)], {20: lambda: proxy.cut(0.3), 60: lambda: proxy.cut(0.2)})
        assert (num_opens, proxy.num_connections) == (1, 1), "it was shorter than the device's patience"


async def test_a_half_open_socket_is_given_up_for_another_way() -> None:
    """Nothing comes, and nobody says that the connection is gone."""
    async with edge_behind("lan", "lte") as (wifi, lte):
        num_opens = await generate(
            [dialer(wifi), dialer(lte)], {30: lambda: wifi.cut(FOR_EVER_S)}, silent_s=0.5
        )
        assert num_opens >= 2
        assert lte.num_connections >= 1


async def test_the_address_changes() -> None:
    """Every connection breaks, and the next one comes from elsewhere."""
    async with edge_behind("lan", "wifi", "lan") as proxies:
        current = 0

        async def dial() -> Link:
            return await dialer(proxies[current])()

        def roam() -> None:
            nonlocal current
            left, current = proxies[current], current + 1
            left.reset()

        assert await generate([dial], {20: roam, 70: roam}) == 3
        assert all(proxy.num_connections for proxy in proxies)


async def test_from_wifi_to_lte_without_a_goodbye() -> None:
    """The old address is silent for ever; the edge still holds the old connection when the new one comes."""
    async with edge_behind("wifi", "lte") as (wifi, lte):
        path = wifi

        async def dial() -> Link:
            return await dialer(path)()

        def leave() -> None:
            nonlocal path
            path = lte
            wifi.cut(FOR_EVER_S)

        assert await generate([dial], {40: leave}, silent_s=0.5) >= 2
        assert wifi.num_open == 1, "half open to the end"


async def test_a_link_that_changes_its_nature_breaks_nothing() -> None:
    async with edge_behind("lan") as (proxy,):
        changes = {
            number: partial(proxy.set_profile, load_profile(name))
            for number, name in ((10, "wifi"), (30, "train"), (50, "5g"), (70, "leo"), (90, "lan"))
        }
        assert await generate([dialer(proxy)], changes) == 1


async def test_dialling_through_a_dead_link_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """TCP connects, for the proxy is near; the edge's answer never comes."""
    monkeypatch.setattr(websocket, "DIAL_TIMEOUT_S", 0.3)
    async with edge_behind("lan") as (proxy,):
        proxy.cut(FOR_EVER_S)
        with pytest.raises(LinkUnavailable, match="cannot reach"):
            await dialer(proxy)()


async def test_a_dead_first_edge_does_not_keep_the_second_from_serving(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(websocket, "DIAL_TIMEOUT_S", 0.3)
    async with edge_behind("lan", "lan") as (dead, alive):
        dead.cut(FOR_EVER_S)
        assert await generate([dialer(dead), dialer(alive)], {}) >= 1
        assert alive.num_connections == 1
