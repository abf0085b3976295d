"""Other commands of ours as processes: started, heard when they are ready, and never left behind."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Collection, Mapping
from types import TracebackType
from typing import IO, Any

from ...errors import CascadeError

__all__ = ["Command", "Commands"]

STOP_S = 8.0
"""How long a process may take to end by itself."""
LAST_WORDS = 2000


class Command:
    """A `cascade ...` command that says in one line of JSON when it is ready."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: IO[bytes]) -> None:
        self.name = name
        self._process = process
        self._log = log

    @classmethod
    async def start(
        cls, *arguments: str, environment: Mapping[str, str], cores: Collection[int] = ()
    ) -> Command:
        """Secrets go into the environment: who lists a machine's processes sees their arguments.

        `cores`: it computes on these alone, where the system can see to that; on any, if there are none.
        """
        log = tempfile.TemporaryFile()  # noqa: SIM115 -- `stop` closes it
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "cascade.cli",
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            env={**os.environ, **environment},
            start_new_session=True,  # Ctrl-C is ours; we end them in an order that makes sense
        )
        if cores and hasattr(os, "sched_setaffinity"):
            with contextlib.suppress(ProcessLookupError):  # it has ended; `ready` says why
                # Before it has other threads: those that it makes stay on the cores of the first.
                os.sched_setaffinity(process.pid, cores)
        return cls(arguments[0], process, log)

    async def ready(self, within_s: float) -> dict[str, Any]:
        """What it says when it is."""
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(within_s):
                line = await self._process.stdout.readline()
        except TimeoutError:
            raise CascadeError(
                f"cascade {self.name} was not ready within {within_s:g} s{await self._why()}"
            ) from None
        if not line:
            await self._process.wait()
            raise CascadeError(f"cascade {self.name} ended before it was ready{await self._why()}")
        content = json.loads(line)
        assert isinstance(content, dict)
        return content

    async def stop(self) -> None:
        """Ask it to end; one that does not is killed."""
        if self._process.returncode is None:
            self._process.terminate()
            try:
                async with asyncio.timeout(STOP_S):
                    await self._process.wait()
            except TimeoutError:
                self._process.kill()
                await self._process.wait()
        self._log.close()

    async def _why(self) -> str:
        """The end of what it wrote to standard error."""
        lines = (await asyncio.to_thread(self._last_words)).strip().splitlines()
        return ": " + lines[-1].removeprefix("cascade: ") if lines else ""

    def _last_words(self) -> str:
        size = self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, size - LAST_WORDS))
        return self._log.read().decode(errors="replace")


class Commands:
    """`async with Commands() as commands:`; whatever ends the block, all of them end, the newest first."""

    def __init__(self) -> None:
        self._running: list[Command] = []

    async def start(
        self,
        *arguments: str,
        within_s: float,
        environment: Mapping[str, str] | None = None,
        cores: Collection[int] = (),
    ) -> dict[str, Any]:
        """Start one, and wait for what it says when it is ready."""
        starting = asyncio.create_task(Command.start(*arguments, environment=environment or {}, cores=cores))
        try:
            command = await asyncio.shield(starting)
        except asyncio.CancelledError:
            self._running.append(await starting)  # a process that nobody knows would stay for ever
            raise
        self._running.append(command)
        return await command.ready(within_s)

    async def __aenter__(self) -> Commands:
        return self

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        while self._running:
            await self._running.pop().stop()
