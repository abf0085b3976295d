"""Cascade as a contestant: a device over the emulated link, on whatever edge there is."""

from __future__ import annotations

import asyncio

from ...device import Device, Policy
from .contest import Answered

__all__ = ["Ours"]


class Ours:
    """One device with one policy."""

    def __init__(self, name: str, device: Device, policy: Policy) -> None:
        self.name = name
        self._device, self._policy = device, policy

    async def answer(self, question: str, num_tokens: int) -> Answered:
        """Greedy."""
        began_s = asyncio.get_running_loop().time()
        stream = self._device.stream(
            [{"role": "user", "content": question}], max_new_tokens=num_tokens, policy=self._policy
        )
        tokens = [token async for token in stream]
        return Answered(
            times_s=tuple(token.time_s - began_s for token in tokens),
            num_tokens=len(tokens),
            text=stream.text,
        )
