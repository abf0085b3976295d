"""Another engine behind the same server: nothing above the interface may know the batch engine."""

from __future__ import annotations

import asyncio

import pytest

from cascade.device import Policy
from cascade.edge import EdgeServer
from cascade.errors import RefusedError
from cascade.testing import MemoryListener, SyntheticTarget

from ..engines.plain import PlainEngine
from ..helpers import in_virtual_time
from .peers import PROMPT, VOCAB_SIZE, ask, device_for, greedy

TARGET = SyntheticTarget(vocab_size=VOCAB_SIZE)
ANSWER = greedy(TARGET, PROMPT, 60)


@pytest.mark.parametrize("policy", [Policy.cloud(), Policy.hint_driven(), Policy.ask_and_wait(4)])
@in_virtual_time
async def test_devices_do_not_see_which_engine_serves_them(policy: Policy) -> None:
    listener = MemoryListener()
    engine = PlainEngine(TARGET)
    async with EdgeServer(engine) as edge, device_for(listener.dial) as device:
        edge.listen(listener)
        assert await ask(device, 60, policy=policy) == ANSWER
        assert engine.owners == ["device"], "as its link says"
        assert (engine.num_hints > 0) == (policy.window > 0)
        await asyncio.sleep(1)
        assert not engine.texts, "closed"
        engine.is_to_fail = True
        with pytest.raises(RefusedError, match="lost its voice") as refused:
            await ask(device, 60, policy=policy)
        assert refused.value.code == "internal"
