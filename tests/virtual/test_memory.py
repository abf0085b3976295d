"""The edge's memory as devices see it: the same text whatever is shared or evicted, sooner or later."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from cascade.device import Device, Policy
from cascade.edge import EdgeServer, EdgeSettings
from cascade.errors import RefusedError
from cascade.links.base import Link
from cascade.models.base import Feed
from cascade.testing import MemoryListener, PacedRunner, SyntheticTarget

from ..helpers import in_virtual_time
from .peers import VOCAB_SIZE, device_for, greedy, hint, opening, talk_to

TARGET = SyntheticTarget(vocab_size=VOCAB_SIZE)
PER_TOKEN = TARGET.new_sequence().growth_bytes(1)
SYSTEM = [number * 7 % 60 for number in range(600)]
QUESTION = [number * 11 % 60 for number in range(200)]


class MeteredTarget(SyntheticTarget):
    """Knows what all its sequences hold together, at the worst moment: right after a pass."""

    def __init__(self) -> None:
        super().__init__(vocab_size=VOCAB_SIZE)
        self.sequences: list[Any] = []
        self.most_bytes = 0

    def new_sequence(self) -> Any:
        sequence = super().new_sequence()
        self.sequences.append(sequence)
        return sequence

    def forward(self, feeds: Sequence[Feed]) -> Any:
        logits = super().forward(feeds)
        self.sequences += [feed.sequence for feed in feeds if feed.sequence not in self.sequences]  # forks
        self.most_bytes = max(self.most_bytes, sum(sequence.memory_bytes for sequence in self.sequences))
        return logits


def cost_s(rows: int) -> float:
    return 0.020 + 0.0001 * rows


class Site:
    """An edge, and devices of several names."""

    def __init__(self, target: SyntheticTarget = TARGET, **settings: Any) -> None:
        self.listener = MemoryListener()
        self.edge = EdgeServer.of(target, PacedRunner(cost_s), settings=EdgeSettings(**settings))
        self.stats = self.edge.engine.stats

    async def __aenter__(self) -> Site:
        await self.edge.__aenter__()
        self.edge.listen(self.listener)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.edge.__aexit__(*exc_info)

    def device(self, name: str, **options: Any) -> Device:
        async def dial() -> Link:
            return await self.listener.dial(name)

        return device_for(dial, **options)


async def answer_and_wait(
    device: Device, prompt: Sequence[int], count: int = 40, policy: Policy | None = None
) -> tuple[list[int], float]:
    """The answer, and how long its first token took."""
    loop = asyncio.get_running_loop()
    asked_s = loop.time()
    ids: list[int] = []
    first_s = 0.0
    async for token in device.stream(prompt, max_new_tokens=count, policy=policy):
        if not ids:
            first_s = loop.time() - asked_s
        ids.append(token.id)
    return ids, first_s


# Sharing


@in_virtual_time
async def test_the_next_turn_of_a_chat_feeds_only_what_is_new() -> None:
    async with Site() as site, site.device("ann") as device:
        answer, first_s = await answer_and_wait(device, SYSTEM)
        assert answer == greedy(TARGET, SYSTEM, 40)
        assert site.stats.num_hit == 0
        chat = [*SYSTEM, *answer, *QUESTION]
        before = site.stats.num_prefilled
        again, again_s = await answer_and_wait(device, chat)
        assert again == greedy(TARGET, chat, 40)
        num_held = len(SYSTEM) + len(answer) - 1  # the last token of an answer is never fed
        assert site.stats.num_hit == num_held
        assert site.stats.num_prefilled - before == len(chat) - 1 - num_held
        assert again_s == pytest.approx(cost_s(len(chat) - num_held))
        assert again_s < first_s


@in_virtual_time
async def test_a_fork_of_an_earlier_turn_shares_what_came_before_it() -> None:
    async with Site() as site, site.device("ann") as device:
        answer, _ = await answer_and_wait(device, SYSTEM)
        turn = [*SYSTEM, *answer[:20]]
        for question in (QUESTION, QUESTION[::-1], [9, *QUESTION]):
            before = site.stats.num_hit
            chat = [*turn, 61, *question]
            assert (await answer_and_wait(device, chat))[0] == greedy(TARGET, chat, 40)
            assert site.stats.num_hit - before >= len(turn)
        for _ in range(2):  # a second try at the same turn, hints and temperature as before or not
            stream = device.stream(turn, max_new_tokens=30, temperature=1.0, seed=5)
            _ = [token async for token in stream]
        assert site.stats.num_hit >= 5 * (len(turn) - 1)


@in_virtual_time
async def test_streams_at_once_share_what_the_first_one_holds() -> None:
    async with Site() as site, site.device("ann") as device:
        first = asyncio.create_task(answer_and_wait(device, [*SYSTEM, 1], 200))
        await asyncio.sleep(1)
        others = await asyncio.gather(*(answer_and_wait(device, [*SYSTEM, n, n], 50) for n in (2, 3, 4)))
        for number, (answer, _) in zip((2, 3, 4), others, strict=True):
            assert answer == greedy(TARGET, [*SYSTEM, number, number], 50)
        assert (await first)[0] == greedy(TARGET, [*SYSTEM, 1], 200)
        assert site.stats.num_hit == 3 * len(SYSTEM)


@in_virtual_time
async def test_another_identity_cannot_tell_what_was_asked() -> None:
    """Time to first token is the same to the nanosecond, whether or not the same was asked before."""
    waits = []
    for is_asked_before in (False, True):
        async with Site() as site, site.device("ann") as ann, site.device("bob", seed=8) as bob:
            if is_asked_before:
                await answer_and_wait(ann, SYSTEM)
            await asyncio.sleep(50 - asyncio.get_running_loop().time() % 50)
            _, first_s = await answer_and_wait(bob, SYSTEM, policy=Policy.cloud())
            waits.append(round(first_s, 9))
            assert site.stats.num_hit == 0
            if is_asked_before:
                assert (await answer_and_wait(ann, SYSTEM))[1] < first_s / 2
    assert waits[0] == waits[1]


@in_virtual_time
async def test_public_prefixes_are_shared_by_all() -> None:
    public = tuple(SYSTEM[:500])
    async with (
        Site(public_prefixes=(public,)) as site,
        site.device("ann") as ann,
        site.device("bob", seed=8) as bob,
    ):
        await answer_and_wait(ann, SYSTEM)
        answer, _ = await answer_and_wait(bob, SYSTEM)
        assert answer == greedy(TARGET, SYSTEM, 40)
        assert site.stats.num_hit == len(public), "and not one token of the hundred that follow"


@in_virtual_time
async def test_what_is_over_is_forgotten_after_a_while() -> None:
    async with Site(keep_kv_s=20.0) as site, site.device("ann") as device:
        await answer_and_wait(device, SYSTEM)
        assert site.edge.engine.kv_bytes >= len(SYSTEM) * PER_TOKEN
        await asyncio.sleep(25)
        assert site.edge.engine.kv_bytes == 0
        await answer_and_wait(device, SYSTEM)
        assert site.stats.num_hit == 0


# A budget


@pytest.mark.parametrize("policy", [Policy.cloud(), Policy.hint_driven(), Policy.hint_driven(patience_s=0.1)])
@in_virtual_time
async def test_more_texts_than_the_memory_holds_get_their_answers_all_the_same(policy: Policy) -> None:
    """Twelve texts of up to 300 tokens in room for 1,000: some wait, some are evicted and rebuilt."""
    target = MeteredTarget()
    budget_bytes = 1000 * PER_TOKEN
    async with Site(target, kv_bytes=budget_bytes) as site, site.device("ann") as device:
        prompts = [[number, *range(40, 60), *QUESTION[: 20 * number]] for number in range(12)]
        answers = await asyncio.gather(*(answer_and_wait(device, p, 60, policy) for p in prompts))
        for prompt, (answer, _) in zip(prompts, answers, strict=True):
            assert answer == greedy(TARGET, prompt, 60)
        assert site.stats.num_evictions > 0
        assert site.stats.num_rebuilt > 0
        assert 0.7 * budget_bytes < target.most_bytes <= budget_bytes


@in_virtual_time
async def test_an_idle_text_is_evicted_and_rebuilt_when_its_device_speaks() -> None:
    async with (
        Site(kv_bytes=1000 * PER_TOKEN, prefill_chunk_rows=256) as site,
        talk_to(site.listener, "ann") as ann,
        site.device("bob", seed=8) as bob,
    ):
        answer = greedy(TARGET, SYSTEM, 10)
        opened = opening(tokens=tuple(SYSTEM), prompt_length=len(SYSTEM), patience_s=1000.0)
        await ann.say(opened)  # and then Ann is silent: her text is driven no further than to a sign of life
        assert await ann.hear_text(1, start=len(SYSTEM)) == answer[:1]
        assert (await answer_and_wait(bob, QUESTION, 300))[0] == greedy(TARGET, QUESTION, 300)
        assert site.stats.num_evictions == 1
        await asyncio.sleep(1)
        assert site.stats.num_rebuilt == 0, "not before it is wanted"
        num_passes = site.stats.num_passes
        text = [*SYSTEM, answer[0]]
        await ann.say(hint(text, answer[1:9], known=len(text)))
        assert await ann.hear_text(9, start=len(text)) == answer[1:10]
        assert site.stats.num_rebuilt == len(SYSTEM)
        assert site.stats.num_passes - num_passes == 3, "in chunks"


@in_virtual_time
async def test_a_text_that_cannot_fit_alone_is_refused_and_hurts_nobody() -> None:
    async with (
        Site(kv_bytes=1000 * PER_TOKEN) as site,
        site.device("ann") as ann,
        site.device("bob", seed=8) as bob,
    ):
        asking = asyncio.create_task(answer_and_wait(ann, QUESTION, 300))
        await asyncio.sleep(0.5)
        with pytest.raises(RefusedError, match=r"needs 0\.016\d* MB of cache.*shorten") as refused:
            await answer_and_wait(bob, [1] * 2000)
        assert refused.value.code == "limit"
        with pytest.raises(RefusedError, match="shorten") as refused:  # begins well, and outgrows it
            await answer_and_wait(bob, [2] * 900, 300)
        assert refused.value.code == "limit"
        assert (await asking)[0] == greedy(TARGET, QUESTION, 300)
        assert (await answer_and_wait(bob, QUESTION, 300))[0] == greedy(TARGET, QUESTION, 300)
        assert site.stats.num_failed == 2
        await asyncio.sleep(0.1)
        assert site.edge.num_sessions == 0
