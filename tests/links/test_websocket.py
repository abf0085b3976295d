"""What only the WebSocket link has: tokens, TLS, ports, and the sockets below."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl

import aiohttp
import pytest
import trustme

from cascade.errors import LinkClosed, LinkUnavailable, RefusedError, SettingsError
from cascade.links.websocket import WebSocketDialer, WebSocketListener

IDENTITIES = {"secret-1": "phone", "secret-2": "tablet"}


async def test_the_identity_is_what_the_token_stands_for() -> None:
    async with WebSocketListener(identify=IDENTITIES.get) as listener:
        for token, identity in IDENTITIES.items():
            dial = WebSocketDialer(listener.url, token=token)
            device, edge = await asyncio.gather(dial(), listener.accept())
            assert edge.peer == identity
            await device.close()
            with pytest.raises(LinkClosed):
                await edge.receive()


@pytest.mark.parametrize("token", ["", "guess"])
async def test_a_stranger_is_refused_before_anything_else(token: str) -> None:
    async with WebSocketListener(identify=IDENTITIES.get) as listener:
        with pytest.raises(RefusedError, match="does not know this token") as caught:
            await WebSocketDialer(listener.url, token=token)()
        assert caught.value.code == "unauthorized"
        assert "guess" not in str(caught.value)


async def test_both_ends_do_without_nagles_delay() -> None:
    async with WebSocketListener() as listener:
        device, edge = await asyncio.gather(WebSocketDialer(listener.url)(), listener.accept())
        for link in (device, edge):
            raw = link._socket.get_extra_info("socket")  # type: ignore[attr-defined]
            assert raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
        await device.close()


async def test_text_frames_end_the_link() -> None:
    async with (
        WebSocketListener() as listener,
        aiohttp.ClientSession() as session,
        session.ws_connect(listener.url) as stranger,
    ):
        edge = await listener.accept()
        await stranger.send_str("hello?")
        with pytest.raises(LinkClosed):
            await edge.receive()


async def test_oversize_frames_end_the_link() -> None:
    async with WebSocketListener() as listener:
        device, edge = await asyncio.gather(WebSocketDialer(listener.url)(), listener.accept())
        await device.send(bytes((1 << 20) + 1))
        with pytest.raises(LinkClosed):
            await edge.receive()
        await device.close()


async def test_a_plain_request_is_told_what_this_is() -> None:
    async with (
        WebSocketListener() as listener,
        aiohttp.ClientSession() as session,
        session.get(listener.url.replace("ws://", "http://")) as answer,
    ):
        assert answer.status == 426
        assert "WebSocket" in await answer.text()


async def test_a_connection_that_asks_for_nothing_is_cut() -> None:
    async with WebSocketListener(request_timeout_s=0.1) as listener:
        host, port = listener.url.removeprefix("ws://").partition("/")[0].split(":")
        device, edge = await asyncio.gather(WebSocketDialer(listener.url)(), listener.accept())
        mute, mute_writer = await asyncio.open_connection(host, int(port))
        slow, slow_writer = await asyncio.open_connection(host, int(port))
        slow_writer.write(b"GET /v1/link HTTP/1.1\r\nHost: x\r\nX-Head")  # and never the rest
        async with asyncio.timeout(5):
            for reader in (mute, slow):
                with contextlib.suppress(ConnectionError):
                    assert await reader.read() == b""
        for writer in (mute_writer, slow_writer):
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
        await device.send(b"links that were opened stay open")
        assert await edge.receive() == b"links that were opened stay open"
        await device.close()


async def test_a_port_in_use_is_explained() -> None:
    async with WebSocketListener() as listener:
        port = int(listener.url.split(":")[2].split("/")[0])
        with pytest.raises(LinkUnavailable, match=rf"cannot listen on 127.0.0.1:{port}.*another port"):
            await WebSocketListener(port=port).__aenter__()


async def test_an_unknown_scheme_is_refused() -> None:
    with pytest.raises(SettingsError, match="url: must begin with ws://"):
        WebSocketDialer("http://edge")


async def test_a_certificate_that_is_not_ours_is_refused() -> None:
    ours, theirs = trustme.CA(), trustme.CA()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ours.issue_cert("127.0.0.1").configure_cert(server)
    server.verify_mode = ssl.CERT_REQUIRED
    ours.configure_trust(server)

    def client(ca: trustme.CA) -> ssl.SSLContext:
        context = ssl.create_default_context()
        ours.configure_trust(context)
        ca.issue_cert("phone@example.org").configure_cert(context)
        return context

    async with WebSocketListener(ssl_context=server) as listener:
        assert listener.url.startswith("wss://")
        dial = WebSocketDialer(listener.url, ssl_context=client(ours))
        device, edge = await asyncio.gather(dial(), listener.accept())
        await device.send(b"hello")
        assert await edge.receive() == b"hello"
        await device.close()
        with pytest.raises(LinkUnavailable, match="cannot reach"):
            await WebSocketDialer(listener.url, ssl_context=client(theirs))()
        with pytest.raises(LinkUnavailable, match="cannot reach"):
            await WebSocketDialer(listener.url)()  # does not trust our CA
