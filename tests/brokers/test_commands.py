"""`cascade broker`, `cascade edges`, and what we ship for production, as an operator meets them."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import ssl
import stat
import sys
from pathlib import Path

import pytest

from brokers.access import CONF, AccessList, access_list_text
from brokers.accounts import AccountsFile
from brokers.embedded import EmbeddedBroker
from brokers.mosquitto import Mosquitto, Tls
from cascade.errors import LinkUnavailable, SettingsError
from cascade.links.mqtt import MqttDialer, MqttListener

from .places import QUICK

CASCADE = (sys.executable, "-m", "cascade.cli")


async def start(*arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *CASCADE, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
async def test_the_broker_says_where_it_listens_and_stops_when_told(how: signal.Signals) -> None:
    process = await start("broker", "--json", "--port", "0", "--edge", "hall", "--device", "kettle")
    assert process.stdout is not None
    said = json.loads(await process.stdout.readline())
    assert said["edges"] == ["hall"]
    async with MqttListener(said["accounts"]["hall"], "hall", about=lambda: {"model": "m"}, settings=QUICK):
        listing = await start("edges", "--json", "--mqtt", said["accounts"]["kettle"])
        out, err = await listing.communicate()
        assert err == b""
        assert json.loads(out) == {
            "edges": [
                {
                    "name": "hall",
                    "online": True,
                    "load": None,
                    "about": {"model": "m", "pool": "default"},
                }
            ]
        }
        table, _ = await (await start("edges", "--mqtt", said["accounts"]["kettle"])).communicate()
        assert table.decode().splitlines()[1].split() == ["hall", "online", "default", "m"]
        process.send_signal(how)
        _, err = await process.communicate()
    assert (process.returncode, err) == (0, b"")


async def test_a_port_in_use_is_explained() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = await start("broker", "--port", str(port))
        out, err = await process.communicate()
        assert (process.returncode, out) == (2, b"")
        assert err.decode() == (
            f"cascade: cannot listen on 127.0.0.1:{port}: Address already in use; "
            "choose another port, or 0 for any\n"
        )


async def test_an_edge_is_called_like_its_account_and_half_of_tls_is_none() -> None:
    async with EmbeddedBroker(edges=["hall"], devices=["kettle"]) as broker:
        serve = await start(
            *(
                "serve",
                "--model",
                "synthetic",
                "--http",
                "127.0.0.1:0",
                "--mqtt",
                broker.url_for("hall"),
                "--json",
            )
        )
        assert serve.stdout is not None
        said = json.loads(await serve.stdout.readline())
        assert (said["edge"], said["mqtt"]) == ("hall", broker.url)
        serve.send_signal(signal.SIGINT)
        await serve.communicate()
        assert serve.returncode == 0
        misnamed = await start(
            *("serve", "--model", "synthetic", "--http", "127.0.0.1:0", "--mqtt", broker.url_for("hall")),
            *("--name", "cellar"),
        )
        _, err = await misnamed.communicate()
        assert misnamed.returncode == 2
        assert b"edge 'cellar' has the account 'hall'" in err
    half = await start("broker", "--port", "0", "--tls-cert", "broker.crt")
    _, err = await half.communicate()
    assert (half.returncode, err) == (2, b"cascade: tls: needs both, --tls-cert and --tls-key\n")


@pytest.mark.needs_mosquitto
async def test_a_port_in_use_is_explained_for_mosquitto() -> None:
    async with Mosquitto() as broker:
        with pytest.raises(LinkUnavailable, match="choose another port"):
            await Mosquitto(port=broker.port).__aenter__()


async def test_no_broker_is_one_line() -> None:
    process = await start("edges", "--mqtt", "mqtt://a:hidden@127.0.0.1:1")
    _, err = await process.communicate()
    assert process.returncode == 2
    assert err.startswith(b"cascade: cannot reach an MQTT broker at mqtt://127.0.0.1:1")
    assert b"hidden" not in err


def test_accounts_are_kept_for_their_owner_only(tmp_path: Path) -> None:
    file = AccountsFile(tmp_path / "accounts.json")
    first = file.add(["hall", "kettle"])
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert len(set(first.values())) == 2
    assert file.add(["kettle", "phone"]).items() > first.items()
    file.path.write_text("[]")
    with pytest.raises(SettingsError, match="names and passwords"):
        file.read()


# The access list


def test_the_shipped_list_says_what_the_topics_say() -> None:
    access = AccessList(access_list_text(["hall"]))
    may = [
        ("kettle", "write", "cascade/v1/pool/default/open/kettle"),
        ("kettle", "write", "cascade/v1/edges/hall/in/kettle"),
        ("kettle", "read", "cascade/v1/devices/kettle/out"),
        ("kettle", "read", "cascade/v1/edges/+/status"),
        ("hall", "read", "cascade/v1/edges/hall/in/+"),
        ("hall", "write", "cascade/v1/devices/kettle/out"),
        ("hall", "write", "cascade/v1/edges/hall/status"),
    ]
    may_not = [
        ("kettle", "write", "cascade/v1/edges/hall/in/phone"),
        ("kettle", "read", "cascade/v1/devices/+/out"),
        ("kettle", "read", "cascade/v1/devices/#"),
        ("kettle", "read", "#"),
        ("kettle", "write", "cascade/v1/devices/kettle/out"),
        ("kettle", "write", "cascade/v1/edges/kettle/status"),
        ("hall", "read", "cascade/v1/edges/attic/in/+"),
        ("hall", "write", "cascade/v1/edges/attic/status"),
        ("", "read", "cascade/v1/edges/hall/status"),
        ("+", "read", "cascade/v1/devices/+/out"),
        ("#", "read", "cascade/v1/devices/#"),
        ("kettle", "read", "cascade/v1/devices/kettle/out/more"),
        ("kettle", "read", "cascade/v1/devices/kettle"),
    ]
    assert [what for what in may if not access.allows(*what)] == []
    assert [what for what in may_not if access.allows(*what)] == []


def test_a_line_that_is_not_understood_is_refused() -> None:
    with pytest.raises(SettingsError, match="line 2"):
        AccessList("user a\nopen everything\n")


async def test_names_have_urls_even_with_odd_passwords() -> None:
    async with (
        EmbeddedBroker(accounts={"edge-1": "a/b:c@d e%", "kettle": "ü#?"}, devices=()) as broker,
        MqttListener(broker.url_for("edge-1"), "edge-1", settings=QUICK) as listener,
    ):
        dial = MqttDialer(broker.url_for("kettle"), edge="edge-1", settings=QUICK)
        device, edge = await asyncio.gather(dial(), listener.accept())
        assert edge.peer == "kettle"
        await device.close()


# Production


@pytest.mark.needs_mosquitto
async def test_our_certificates_work(tmp_path: Path) -> None:
    for arguments in (["broker", "localhost", "127.0.0.1"], ["client", "edge-1"], ["client", "kettle"]):
        making = await asyncio.create_subprocess_exec(
            CONF / "make-certificates.sh", tmp_path, *arguments, stdout=asyncio.subprocess.DEVNULL
        )
        assert await making.wait() == 0
    assert stat.S_IMODE((tmp_path / "ca.key").stat().st_mode) == 0o600

    def context(name: str) -> ssl.SSLContext:
        made = ssl.create_default_context(cafile=str(tmp_path / "ca.crt"))
        made.load_cert_chain(tmp_path / f"{name}.crt", tmp_path / f"{name}.key")
        return made

    tls = Tls(
        ca=tmp_path / "ca.crt",
        certificate=tmp_path / "broker.crt",
        key=tmp_path / "broker.key",
        needs_client_certificate=True,
    )
    async with (
        Mosquitto(tls=tls) as broker,
        MqttListener(broker.url, "edge-1", ssl_context=context("edge-1"), settings=QUICK) as listener,
    ):
        dial = MqttDialer(
            broker.url, device="kettle", edge="edge-1", ssl_context=context("kettle"), settings=QUICK
        )
        device, edge = await asyncio.gather(dial(), listener.accept())
        assert edge.peer == "kettle"
        await device.close()


@pytest.mark.needs_mosquitto
async def test_the_production_configuration_starts(tmp_path: Path) -> None:
    """As shipped, but for folder, port and who runs it; passwords are from `mosquitto_passwd`."""
    from brokers.mosquitto import find

    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    shipped = (CONF / "mosquitto" / "mosquitto.conf").read_text()
    text = shipped.replace("/etc/mosquitto/cascade", str(tmp_path)).replace(
        "listener 8883", f"listener {port}"
    )
    (tmp_path / "mosquitto.conf").write_text(text + "\nuser root\n")
    (tmp_path / "acl").write_text((CONF / "mosquitto" / "acl").read_text())
    (tmp_path / "passwords").touch(mode=0o600)
    for command in (
        [str(CONF / "make-certificates.sh"), str(tmp_path), "broker", "127.0.0.1"],
        [find("mosquitto_passwd"), "-b", str(tmp_path / "passwords"), "edge-1", "one"],
        [find("mosquitto_passwd"), "-b", str(tmp_path / "passwords"), "kettle", "two"],
    ):
        done = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.DEVNULL)
        assert await done.wait() == 0
    process = await asyncio.create_subprocess_exec(
        find(), "-c", str(tmp_path / "mosquitto.conf"), stderr=asyncio.subprocess.DEVNULL
    )
    trust = ssl.create_default_context(cafile=str(tmp_path / "ca.crt"))
    url = f"mqtts://127.0.0.1:{port}"
    try:
        listener = MqttListener(url, "edge-1", username="edge-1", password="one", ssl_context=trust)
        async with asyncio.timeout(10):
            while True:
                try:
                    await listener.__aenter__()
                    break
                except LinkUnavailable:
                    await asyncio.sleep(0.05)
        dial = MqttDialer(url, username="kettle", password="two", edge="edge-1", ssl_context=trust)
        device, edge = await asyncio.gather(dial(), listener.accept())
        assert edge.peer == "kettle"
        await device.close()
        await listener.close()
    finally:
        process.terminate()
        await process.wait()
