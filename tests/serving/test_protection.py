"""Hostile and broken devices over real sockets: each hears why, and nobody else is hurt.

Timings are not judged here: `cascade bench protection` measures what an attack costs the others.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from cascade.apps.serving import Serving
from cascade.device import Policy
from cascade.edge import Quota
from cascade.edge.decode import Decode
from cascade.edge.hints import MAX_EARLY
from cascade.errors import LinkClosed, RefusedError
from cascade.lab.hostile import KINDS, Attacker
from cascade.links.websocket import WebSocketDialer, _WebSocketLink
from cascade.wire import Close, Codec, Commit, Error, ErrorCode, Message, Ping, Pong, Welcome

from ..virtual.peers import PROMPT, VOCAB_SIZE, Talker, greedy, greeting, hint, opening
from .servers import TARGET, ask, device_at, get, serving, until, write_tokens

ANSWER = greedy(TARGET, [5, 6, 7], 20)


@contextlib.asynccontextmanager
async def talking(server: Serving, identity: str = "mallory", token: str = "") -> AsyncIterator[Talker]:
    """A welcomed link, spoken by hand."""
    talker = Talker(await WebSocketDialer(server.link_url, token=token)())
    try:
        await talker.say(greeting(identity=identity))
        await talker.hear(Welcome)
        yield talker
    finally:
        await talker.link.close()


async def serves_others(server: Serving) -> None:
    async with device_at(server, identity="honest") as device:
        assert await asyncio.wait_for(ask(device), 20) == ANSWER


async def hear_error(talker: Talker, code: ErrorCode) -> Error:
    """The first error with this code."""
    async with asyncio.timeout(10):
        while True:
            error = await talker.hear(Error, within_s=10)
            if error.code is code:
                return error


async def test_a_thousand_sessions_are_refused_beyond_the_quota() -> None:
    quota = Quota(max_sessions=5, messages_per_s=0, bytes_per_s=0)
    async with serving(edge={"quota": quota, "run_ahead": 8}) as server, talking(server) as talker:
        refusals = asyncio.create_task(_count_errors(talker, 995))
        for number in range(1000):
            await talker.say(opening(session=b"%d" % number, alias=number % 256, generation=number + 1))
            if number % 16 == 0:
                await asyncio.sleep(0.001)
        errors = await refusals
        assert {error.code for error in errors} == {ErrorCode.LIMIT}
        assert "5 open sessions are all that one identity may have" in errors[0].text
        assert errors[0].retry_after_ms is not None
        assert server.edge.num_sessions <= 5
        await serves_others(server)


async def _count_errors(talker: Talker, at_least: int) -> list[Error]:
    """The edge answers those that it has room to answer for: a reader this slow loses the oldest."""
    errors: list[Error] = []
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(5):
            while len(errors) < at_least:
                errors.append(await talker.hear(Error))
    return errors


async def test_a_thousand_identities_of_one_device_still_fill_only_the_edges_own_bounds() -> None:
    """Without tokens anybody may claim any name: then the edge's limits are what holds."""
    async with serving(edge={"max_links": 4, "max_sessions": 3, "run_ahead": 8}) as server:
        async with contextlib.AsyncExitStack() as stack:
            talkers = [
                await stack.enter_async_context(talking(server, f"mallory-{number}")) for number in range(4)
            ]
            for talker in talkers:
                await talker.say(opening(max_new_tokens=100))
            error = await hear_error(talkers[-1], ErrorCode.OVERLOADED)
            assert error.text == "too many open sessions"
            fifth = Talker(await WebSocketDialer(server.link_url)())
            await fifth.say(greeting(identity="mallory-5"))
            error = await hear_error(fifth, ErrorCode.OVERLOADED)
            assert error.text == "4 links are all that this edge takes"
            with pytest.raises(LinkClosed):
                await fifth.link.receive()
        await until(lambda: server.edge.num_links == 0)


async def test_more_links_than_the_quota_are_refused() -> None:
    async with serving(edge={"quota": Quota(max_links=2)}) as server:
        async with talking(server), talking(server):
            third = Talker(await WebSocketDialer(server.link_url)())
            await third.say(greeting(identity="mallory"))
            error = await hear_error(third, ErrorCode.LIMIT)
            assert "2 links are all that one identity may have" in error.text
            await third.link.close()
            await serves_others(server)
        await until(lambda: server.edge.num_links == 0)
        async with talking(server), talking(server):
            pass


async def test_a_flood_is_told_why_it_is_read_slowly_and_hurts_nobody() -> None:
    quota = Quota(messages_per_s=200, burst_s=0.5)
    async with serving(edge={"quota": quota}) as server, talking(server) as talker:
        flood = asyncio.create_task(_flood(talker))
        error = await hear_error(talker, ErrorCode.LIMIT)
        assert "more than 200 messages" in error.text
        assert error.retry_after_ms
        await serves_others(server)
        flood.cancel()
        await asyncio.gather(flood, return_exceptions=True)
        # What the edge has taken in is what the rate allows; the rest waits on the flooder's side.
        taken = server.edge.counters.by_identity["mallory"].bytes_in / len(_PING)
        assert taken < 200 * 20


_PING = Codec(VOCAB_SIZE).encode(Ping(nonce=1))


async def _flood(talker: Talker) -> None:
    while True:
        for _ in range(50):
            await talker.link.send(_PING)
        await asyncio.sleep(0)  # the edge is in this loop too


async def test_a_flood_of_garbage_is_hung_up_on() -> None:
    async with serving() as server, talking(server) as talker:
        with contextlib.suppress(LinkClosed):
            for _ in range(1000):
                await talker.link.send(b"\x93nonsense")
        heard = await talker.hear_all(for_s=5)
        errors = [message for message in heard if isinstance(message, Error)]
        assert {error.code for error in errors} == {ErrorCode.BAD_MESSAGE}
        assert errors[-1].text == "too many unreadable messages; hanging up"
        await until(lambda: server.edge.num_links == 0)
        await serves_others(server)


async def test_garbage_hints_change_no_text_and_take_bounded_memory() -> None:
    quota = Quota(messages_per_s=0, bytes_per_s=0)
    async with serving(edge={"quota": quota}) as server, talking(server) as talker:
        await talker.say(opening(max_new_tokens=20, tokens=(5, 6, 7)))
        text = [5, 6, 7, *ANSWER]
        for number in range(200):
            known = 3 + number % 18
            await talker.say(hint(text[:known], [1] * 4096, known=3))  # plausible, and wrong
            await talker.say(hint([1] * (30 + number), [2] * 4096, known=3))  # from the future
        assert await talker.hear_text(20) == ANSWER
        (session,) = server.edge._sessions
        assert isinstance(session.text, Decode)
        buffer = session.text.hints
        held = len(buffer._text) + sum(len(early.tokens) for early in buffer._early)
        assert held <= len(text) + (1 + MAX_EARLY) * server.options.edge.max_buffered_hints
        await serves_others(server)


def _small_socket(address: Any) -> socket.socket:
    """Its system keeps little of what is not read."""
    family, kind, protocol, *_ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    return made


async def test_whoever_does_not_read_is_cut_and_may_come_back() -> None:
    """The sockets are full, the edge's writer waits: after a bound it gives the link up."""
    edge = {"send_timeout_s": 0.5, "quota": Quota(messages_per_s=0, bytes_per_s=0)}
    codec = Codec(VOCAB_SIZE)
    async with serving(edge=edge) as server:
        connector = aiohttp.TCPConnector(socket_factory=_small_socket)
        async with aiohttp.ClientSession(connector=connector) as session:
            deaf = await session.ws_connect(server.link_url, autoclose=False)
            await deaf.send_bytes(codec.encode(greeting(identity="deaf")))
            open_it = codec.encode(opening(tokens=(5, 6, 7), max_new_tokens=20))
            close_it = codec.encode(Close(alias=0, generation=1, known=3))
            await deaf.send_bytes(open_it)
            await deaf.send_bytes(close_it)
            await until(lambda: server.edge.counters.ended["closed"] == 1)
            (peer,) = server.edge._peers
            assert isinstance(peer.link, _WebSocketLink)
            small = peer.link._socket.get_extra_info("socket")
            small.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            with contextlib.suppress(aiohttp.ClientError, ConnectionError):
                async with asyncio.timeout(30):
                    while not server.edge.counters.cut["does not read"]:
                        for _ in range(32):
                            await deaf.send_bytes(open_it)  # "this session was closed", again and again
                        await asyncio.sleep(0.001)
            assert server.edge.counters.cut["does not read"] == 1
            await until(lambda: server.edge.num_links == 0)
        async with talking(server, "deaf") as talker:
            await talker.say(opening(session=b"2", generation=2, tokens=(5, 6, 7), max_new_tokens=20))
            assert await talker.hear_text(20) == ANSWER
        await serves_others(server)


TOLD = {
    "flood": "you send more than",
    "sessions": "open sessions are all that one identity may have",
    "garbage": "open sessions are all that one identity may have",
}


@pytest.mark.parametrize("kind", sorted(KINDS))
async def test_attacks_of_the_benchmark_are_told_why_and_stay_bounded(kind: str, tmp_path: Path) -> None:
    quota = Quota(max_links=2, max_sessions=4, messages_per_s=200, burst_s=0.5)
    path = write_tokens(tmp_path, '[mallory]\ntokens = ["m"]\n[honest]\ntokens = ["h"]\n')
    async with serving(tokens=path, edge={"quota": quota, "send_timeout_s": 0.5}) as server:
        attacker = Attacker(server.link_url, "m")
        started_s = asyncio.get_running_loop().time()
        attack = asyncio.create_task(attacker.attack(kind, 60))
        await asyncio.sleep(1)
        async with device_at(server, token="h") as device:
            assert await asyncio.wait_for(ask(device), 20) == ANSWER
        if kind in TOLD:
            await until(lambda: any(TOLD[kind] in text for text in attacker.told))
        edge = server.edge
        assert edge.num_links <= 2
        assert edge.health().num_sessions <= 4
        assert edge.num_sessions <= 2 * 4 + 1
        elapsed_s = asyncio.get_running_loop().time() - started_s
        num_heard = quota.messages_per_s * (elapsed_s + 1.0)  # what was saved up, and a message for each link
        assert edge.counters.by_identity["mallory"].bytes_in < 256 * num_heard
        attack.cancel()
        await asyncio.gather(attack, return_exceptions=True)


async def test_links_that_never_say_hello_are_closed() -> None:
    async with serving(edge={"hello_timeout_s": 0.2}) as server:
        link = await WebSocketDialer(server.link_url)()
        async with asyncio.timeout(10):
            with pytest.raises(LinkClosed):
                await link.receive()
        assert server.edge.counters.cut["no hello"] == 1
        early = Talker(await WebSocketDialer(server.link_url)())
        with contextlib.suppress(LinkClosed):
            for _ in range(1000):
                await early.say(opening())
        heard = await early.hear_all(for_s=5)
        assert [message.text for message in heard if isinstance(message, Error)] == [
            "say HELLO before anything else"
        ]
        await serves_others(server)


async def test_oversize_and_malformed_frames_end_only_their_own_link() -> None:
    async with serving(edge={"max_message_bytes": 8192}) as server:
        async with talking(server) as talker:
            await talker.link.send(bytes(8193))
            await talker.hear_all(for_s=5)
            with pytest.raises(LinkClosed):
                await talker.link.receive()
        host, port = server.http_url.removeprefix("http://").split(":")
        upgrade = (
            f"GET /v1/link HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        ).encode()
        for nonsense in (
            b"\x00" * 100,
            b"GET / HTTP/9.9\r\n\r\n",
            b"POST /v1/verify HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n",
            upgrade + b"\xff" * 64,  # reserved bits, unmasked, an opcode that is none
            upgrade + b"\x82\xff" + b"\xff" * 8 + b"mask",  # a frame of 2^64 bytes
        ):
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(nonsense)
            await writer.drain()
            async with asyncio.timeout(10):
                with contextlib.suppress(ConnectionError):
                    await reader.read(65536)
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
        await serves_others(server)


async def test_no_identity_reaches_anothers_session_over_http(tmp_path: Path) -> None:
    async with serving(tokens=write_tokens(tmp_path), edge={"run_ahead": 8}) as server:
        async with talking(server, "whatever it says", token="phone-secret") as phone:
            await phone.say(opening(tokens=(5, 6, 7), max_new_tokens=20))
            assert await phone.hear_text(8) == ANSWER[:8]
            async with talking(server, "phone", token="tablet-secret") as tablet:
                await tablet.say(
                    hint([5, 6, 7, *ANSWER[:8]], known=11), Close(alias=0, generation=9, known=3)
                )
                assert (await tablet.hear(Error)).code is ErrorCode.UNKNOWN_SESSION
                await tablet.say(opening(tokens=(1, 2), prompt_length=2, max_new_tokens=20, generation=2))
                assert await tablet.hear_text(8, start=2) == greedy(TARGET, [1, 2], 8)
            await phone.say(hint([5, 6, 7, *ANSWER[:8]], known=11))
            assert await phone.hear_text(8, start=11) == ANSWER[8:16]
        assert set(server.edge.counters.by_identity) == {"phone", "tablet"}


async def test_over_its_rate_an_identity_opens_nothing() -> None:
    """How texts that are open go on is in tests/virtual/test_rate.py."""
    quota = Quota(tokens_per_s=1, burst_s=100)
    async with serving(edge={"quota": quota}) as server:
        async with device_at(server, identity="greedy") as device:
            assert await ask(device) == ANSWER
            prompt = [number % 60 for number in range(200)]
            assert [token async for token in device.stream(prompt, max_new_tokens=1)]
            with pytest.raises(RefusedError, match="more than 1 tokens a second") as refused:
                await ask(device)
            assert refused.value.retry_after_s is not None
        await serves_others(server)


async def test_finished_sessions_stand_in_nobodys_way() -> None:
    """Nobody closes them here, and each opens the way for the next."""
    edge = {"max_sessions": 2, "quota": Quota(max_sessions=2)}
    async with serving(edge=edge) as server, talking(server) as talker:
        for number in range(20):
            await talker.say(
                opening(session=b"%d" % number, alias=number, generation=number + 1, max_new_tokens=4)
            )
            assert await talker.hear_text(4) == greedy(TARGET, PROMPT, 4)
        assert server.edge.num_sessions <= 2
        # The newest still answers a device that missed its end; the oldest has become a tombstone.
        await talker.say(hint(list(PROMPT), known=3, alias=19, generation=20, position=7))
        assert (await talker.hear(Commit)).tokens == tuple(greedy(TARGET, PROMPT, 4))


async def test_neither_tokens_nor_texts_reach_a_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with serving(tokens=write_tokens(tmp_path)) as server:
        async with talking(server, token="phone-secret") as talker:
            await talker.say(greeting(identity="phone", token="hello-secret"))
            await talker.say(opening(tokens=(5, 6, 7), max_new_tokens=20), Ping(nonce=1))
            await talker.hear(Pong)
            await talker.link.send(b"phone-secret")
        with pytest.raises(RefusedError):
            await WebSocketDialer(server.link_url, token="wrong-secret")()
        await get(server, "/metrics", token="wrong-secret")
        await get(server, "/v1/link?token=query-secret")
        await server.reload()
        await server.drain()
    logged = caplog.text + "".join(repr(record.__dict__) for record in caplog.records)
    assert "secret" not in logged
    assert str(ANSWER[:4])[1:-1] not in logged


def test_messages_of_the_wire_do_not_show_tokens() -> None:
    hello: Message = greeting(token="hello-secret")
    assert "secret" not in repr(hello)
    assert TARGET.vocab_size == VOCAB_SIZE


async def test_a_patient_answer_is_not_taken_for_a_stall() -> None:
    async with serving(edge={"max_wait_s": 0.05}) as server, device_at(server) as device:
        policy = Policy.hint_driven(patience_s=0.5)
        assert await ask(device, policy=policy) == ANSWER
        assert server.edge.health().is_well
