"""A real mosquitto, started with our configuration: for tests, demos and measurements.

Production has its own: see `conf/mosquitto` and `README.md`.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import signal
import socket
import tempfile
import urllib.parse
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from cascade.errors import LinkUnavailable
from cascade.links.listening import cannot_listen

from .access import access_list_text

__all__ = ["Mosquitto", "Tls", "find"]

SEARCH_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin"])
"""Debian keeps servers in sbin, which is not on a user's path."""
START_S = 10.0


def find(program: str = "mosquitto") -> str:
    """Where it is installed; `LinkUnavailable` where it is not."""
    found = shutil.which(program, path=SEARCH_PATH)
    if found is None:
        raise LinkUnavailable(
            f"{program} is not installed; on Debian: apt-get install mosquitto; or use `cascade broker`"
        )
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """Files in PEM. With `needs_client_certificate` the broker lets in whom the CA has signed, by common
    name.
    """

    ca: Path
    certificate: Path
    key: Path
    needs_client_certificate: bool = False


class Mosquitto:
    """`async with Mosquitto() as broker: broker.url`. Port 0 takes a free one.

    Without `accounts` anybody may do anything, on loopback. With them, the shipped access list holds, in
    which the names in `edges` and `gateways` are what these say, and all others devices and things.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        accounts: Mapping[str, str] | None = None,
        edges: Iterable[str] = ("edge-1",),
        gateways: Iterable[str] = (),
        tls: Tls | None = None,
    ) -> None:
        self.host = host
        self.port = port
        self.edges = tuple(edges)
        self.gateways = tuple(gateways)
        self.accounts = dict(accounts or {})
        self._tls = tls
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._process: asyncio.subprocess.Process | None = None

    def __repr__(self) -> str:
        return f"Mosquitto({self.url!r}, accounts={sorted(self.accounts)})"

    @property
    def url(self) -> str:
        """Without account."""
        return f"{self._scheme}://{self.host}:{self.port}"

    @property
    def _scheme(self) -> str:
        return "mqtt" if self._tls is None else "mqtts"

    @property
    def pid(self) -> int | None:
        """Of the running broker."""
        return None if self._process is None else self._process.pid

    def url_for(self, name: str) -> str:
        """With this account's name and password: a secret."""
        password = urllib.parse.quote(self.accounts[name], safe="")
        return f"{self._scheme}://{urllib.parse.quote(name, safe='')}:{password}@{self.host}:{self.port}"

    async def __aenter__(self) -> Mosquitto:
        program = find()
        self._folder = tempfile.TemporaryDirectory(prefix="cascade-mosquitto-")
        try:
            await self._start(program)
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        await self._stop(signal.SIGTERM)
        if self._folder is not None:
            folder, self._folder = self._folder, None
            await asyncio.to_thread(folder.cleanup)

    async def kill(self) -> None:
        """As a crash would: nobody is told."""
        await self._stop(signal.SIGKILL)

    async def restart(self) -> None:
        """On the same port, with all forgotten."""
        await self._stop(signal.SIGTERM)
        await self._start(find())

    async def _start(self, program: str) -> None:
        self.port = _free_port(self.host, self.port)
        assert self._folder is not None
        folder = Path(self._folder.name)
        configuration = await asyncio.to_thread(self._write_files, folder)
        log = folder / "log"
        with log.open("wb") as log_file:
            self._process = await asyncio.create_subprocess_exec(
                program,
                "-c",
                str(configuration),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log_file,
                stderr=log_file,
            )
        ended = asyncio.create_task(self._process.wait())
        try:
            async with asyncio.timeout(START_S):
                while not await self._answers():
                    if ended.done():
                        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
                        reason = lines[-1] if lines else "no reason given"
                        raise LinkUnavailable(
                            f"mosquitto did not start on {self.host}:{self.port}: {reason}; "
                            "choose another port, or 0 for any"
                        )
                    await asyncio.sleep(0.01)
        except TimeoutError:
            raise LinkUnavailable(f"mosquitto does not answer on {self.host}:{self.port}") from None
        finally:
            ended.cancel()

    async def _stop(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None or process.returncode is not None:
            return
        process.send_signal(how)
        try:
            async with asyncio.timeout(5):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()

    async def _answers(self) -> bool:
        try:
            _, writer = await asyncio.open_connection(self.host, self.port)
        except OSError:
            return False
        writer.close()
        try:
            await writer.wait_closed()
        except OSError:
            pass
        return True

    def _write_files(self, folder: Path) -> Path:
        lines = [
            f"listener {self.port} {self.host}",
            "set_tcp_nodelay true",  # without it QoS 1 waits for delayed acknowledgements: 44 ms a message
            "persistence false",
            "log_type error",
            "log_type warning",
            f"allow_anonymous {'false' if self.accounts or self._needs_certificate else 'true'}",
        ]
        if os.geteuid() == 0:
            lines.append("user root")  # it would become `mosquitto`, who may not read this folder
        if self._tls is not None:
            lines += [
                f"cafile {self._tls.ca}",
                f"certfile {self._tls.certificate}",
                f"keyfile {self._tls.key}",
            ]
        if self._needs_certificate:
            lines += ["require_certificate true", "use_identity_as_username true"]
        if self.accounts and not self._needs_certificate:
            lines.append(f"password_file {self._write_passwords(folder)}")
        if self.accounts or self._needs_certificate:
            access = folder / "acl"
            access.write_text(access_list_text(self.edges, self.gateways), encoding="utf-8")
            lines.append(f"acl_file {access}")
        configuration = folder / "mosquitto.conf"
        configuration.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return configuration

    @property
    def _needs_certificate(self) -> bool:
        return self._tls is not None and self._tls.needs_client_certificate

    def _write_passwords(self, folder: Path) -> Path:
        """Salted hashes, as `mosquitto_passwd` writes them; nothing secret on a command line."""
        path = folder / "passwords"
        text = "".join(f"{name}:{_hashed(password)}\n" for name, password in self.accounts.items())
        path.touch(mode=0o600)
        path.write_text(text, encoding="utf-8")
        return path


def _hashed(password: str, *, iterations: int = 101) -> str:
    """PBKDF2-SHA512 in mosquitto's notation."""
    import base64
    import hashlib

    salt = secrets.token_bytes(12)
    key = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, iterations)
    return f"$7${iterations}${base64.b64encode(salt).decode()}${base64.b64encode(key).decode()}"


def _free_port(host: str, port: int) -> int:
    """This port, or for 0 any; somebody else's broker on it must not be taken for ours."""
    try:
        with socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET
        ) as probe:
            return int(probe.getsockname()[1])
    except OSError as error:
        raise cannot_listen(host, port, error) from None
