"""Another engine behind the same server: nothing above the interface may know the batch engine."""

from __future__ import annotations

import asyncio

import pytest

from cascade.device import Policy
from cascade.edge import EdgeServer
from cascade.errors import RefusedError
from cascade.testing import MemoryListener, SyntheticTarget
from cascade.wire import Commit, Message

from ..engines.plain import PlainEngine
from ..helpers import in_virtual_time
from .peers import PROMPT, VOCAB_SIZE, ask, device_for, greedy, hint, opening, talk_to

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


@in_virtual_time
async def test_what_tokens_are_under_way_from_their_step_is_part_of_the_round_trip() -> None:
    """Devices count from the last commit to the next step: it had begun when the last one was over."""
    held_ms: list[int] = []
    for lag_s in (0.0, 0.004):
        listener, engine = MemoryListener(), PlainEngine(TARGET)
        async with EdgeServer(engine) as edge:
            edge.listen(listener)
            async with talk_to(listener) as talker:
                await talker.say(opening())
                await asyncio.sleep(0.001)
                for text in engine.texts:
                    text.lag_s = lag_s  # type: ignore[misc]
                await talker.say(hint(PROMPT, known=len(PROMPT), stamp_ms=7))
                said: list[Message] = await talker.hear_all(for_s=0.05)
                commits = [one for one in said if isinstance(one, Commit) and one.echo_ms == 7]
                held_ms += [one.held_ms for one in commits if one.held_ms is not None]
    assert held_ms[0] - held_ms[1] == 4
