"""Whose turn it is: so many answers at a time, so many that wait, and a reason for everybody else."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from http import HTTPStatus

from .failures import ApiError

__all__ = ["Turns"]

FIRST_GUESS_S = 5.0
"""How long an answer takes, before there was one."""
WEIGHT = 0.2
MAX_RETRY_AFTER_S = 60.0


class Turns:
    """First come, first served. Beyond `max_waiting` a request is refused at once, after `max_wait_s` too."""

    def __init__(self, *, max_running: int, max_waiting: int, max_wait_s: float) -> None:
        self._max_running = max_running
        self._max_waiting = max_waiting
        self._max_wait_s = max_wait_s
        self._free = asyncio.Semaphore(max_running)
        self._mean_s = FIRST_GUESS_S
        self.num_running = 0
        self.num_waiting = 0
        self.num_refused = 0

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        await self._wait()
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        self.num_running += 1
        try:
            yield
        finally:
            self.num_running -= 1
            self._mean_s += WEIGHT * (loop.time() - began_s - self._mean_s)
            self._free.release()

    async def _wait(self) -> None:
        if self._free.locked() and self.num_waiting >= self._max_waiting:
            raise self._refusal(
                HTTPStatus.TOO_MANY_REQUESTS,
                "rate_limit_exceeded",
                f"{self.num_waiting} requests wait already",
            )
        self.num_waiting += 1
        try:
            async with asyncio.timeout(self._max_wait_s):
                await self._free.acquire()
        except TimeoutError:
            text = f"no turn within {self._max_wait_s:g} s: {self._max_running} answers are being made"
            raise self._refusal(HTTPStatus.SERVICE_UNAVAILABLE, "overloaded", text) from None
        finally:
            self.num_waiting -= 1

    def _refusal(self, status: HTTPStatus, code: str, text: str) -> ApiError:
        self.num_refused += 1
        wait_s = self._mean_s * (self.num_waiting + 1) / self._max_running
        return ApiError(
            status, code, f"{text}; come back later", retry_after_s=min(wait_s, MAX_RETRY_AFTER_S)
        )
