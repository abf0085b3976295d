"""TLS on the real port: strangers stay out, and new files count without a restart."""

from __future__ import annotations

import asyncio
import os
import ssl
from pathlib import Path

import pytest
import trustme

from cascade.apps.certificates import Certificates
from cascade.apps.serving import Serving
from cascade.errors import LinkUnavailable, SettingsError
from cascade.links.base import Link
from cascade.links.websocket import WebSocketDialer

from .servers import serving


class Files:
    """Certificates where an operator would keep them."""

    def __init__(self, folder: Path, ca: trustme.CA) -> None:
        self.cert, self.key, self.ca = (folder / name for name in ("cert.pem", "key.pem", "ca.pem"))
        self.write(ca, ca)

    def write(self, server_ca: trustme.CA, client_ca: trustme.CA) -> None:
        issued = server_ca.issue_cert("127.0.0.1")
        self._replace(self.cert, b"".join(part.bytes() for part in issued.cert_chain_pems))
        self._replace(self.key, issued.private_key_pem.bytes())
        self._replace(self.ca, client_ca.cert_pem.bytes())

    def _replace(self, path: Path, data: bytes) -> None:
        fresh = path.with_suffix(".new")
        fresh.write_bytes(data)
        os.replace(fresh, path)


def client(trusts: trustme.CA, issued_by: trustme.CA | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    trusts.configure_trust(context)
    if issued_by is not None:
        issued_by.issue_cert("phone@example.org", common_name="phone").configure_cert(context)
    return context


async def dial(server: Serving, context: ssl.SSLContext) -> Link:
    return await WebSocketDialer(server.link_url, ssl_context=context)()


async def test_a_certificate_that_is_not_ours_is_refused_and_one_that_is_says_who(tmp_path: Path) -> None:
    ours, theirs = trustme.CA(), trustme.CA()
    files = Files(tmp_path, ours)
    async with serving(tls_cert=files.cert, tls_key=files.key, client_ca=files.ca) as server:
        assert server.http_url.startswith("https://")
        link = await dial(server, client(ours, ours))
        (peer,) = server.edge._peers
        assert peer.link.peer == "phone"
        await link.close()
        for stranger in (client(ours, theirs), client(ours)):
            with pytest.raises(LinkUnavailable):
                await (await dial(server, stranger)).receive()
        link = await dial(server, client(ours, ours))
        await link.close()


async def test_new_certificates_count_without_a_restart(tmp_path: Path) -> None:
    old, new = trustme.CA(), trustme.CA()
    files = Files(tmp_path, old)
    async with serving(tls_cert=files.cert, tls_key=files.key, client_ca=files.ca) as server:
        before = await dial(server, client(old, old))
        await asyncio.to_thread(files.write, new, new)
        await server.reload()
        after = await dial(server, client(new, new))
        with pytest.raises(LinkUnavailable):
            await dial(server, client(old, new))  # the server has another certificate now
        with pytest.raises(LinkUnavailable):
            await (await dial(server, client(new, old))).receive()  # and another CA for clients
        await before.send(b"links that are open stay open")
        for link in (before, after):
            await link.close()


def test_files_that_cannot_be_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ca = trustme.CA()
    files = Files(tmp_path, ca)
    with pytest.raises(SettingsError, match=r"cannot use .*none.pem"):
        Certificates(tmp_path / "none.pem", files.key)
    with pytest.raises(SettingsError, match=r"client_ca: cannot use"):
        Certificates(files.cert, files.key, files.key)
    certificates = Certificates(files.cert, files.key, files.ca)
    files.cert.write_text("half a certifi")
    assert not certificates.reload()
    assert "the certificates stay as they were" in caplog.text
