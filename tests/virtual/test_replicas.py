"""Many engines behind one address, in virtual time: kills, silence, moves; and the oracle that judges."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import random
from collections.abc import AsyncIterator, Callable

import pytest

from cascade.decoding import Sampling
from cascade.device import Device, Policy
from cascade.edge import BatchEngine, EdgeServer, EdgeSettings, Engine
from cascade.edge.interface import DecodeRequest
from cascade.edge.replicas import ReplicaSettings, ReplicatedEngine, orders
from cascade.edge.replicas.host import Host
from cascade.edge.replicas.local import LocalWorkers
from cascade.errors import EngineError, MemoryExceeded, ReplicaLost
from cascade.events import Token
from cascade.testing import MemoryListener, PacedRunner, SyntheticDraft, SyntheticTarget, run_virtual
from cascade.wire.text import HashedText

from ..engines.conformance import Opened, Subject, running
from ..engines.test_conformance import answer_of
from ..helpers import in_virtual_time

TARGET = SyntheticTarget(vocab_size=64)
ANSWER = answer_of(TARGET)
PASS_S = 0.02


def new_engine(**settings: object) -> Engine:
    pace = PacedRunner(lambda rows: PASS_S + 0.0001 * rows)
    return BatchEngine(TARGET, pace, EdgeSettings(**settings))  # type: ignore[arg-type]


@contextlib.asynccontextmanager
async def replicas(
    num: int, *, new: Callable[[], Engine] = new_engine, restart_s: float = 0.5, **settings: object
) -> AsyncIterator[tuple[ReplicatedEngine, LocalWorkers]]:
    workers = LocalWorkers(new, way_s=0.002, jitter_s=0.004, restart_s=restart_s)
    options = ReplicaSettings(num_replicas=num, **settings)  # type: ignore[arg-type]
    async with ReplicatedEngine.over(workers, options) as engine, running(engine):
        yield engine, workers


def request(number: int, num_tokens: int, temperature: float = 0.0) -> DecodeRequest:
    prompt = tuple((number * 7 + place) % 60 for place in range(3 + number % 30))
    sampling = Sampling(temperature=temperature, seed=number)
    return DecodeRequest(
        prompt=prompt, sampling=sampling, stop_ids=frozenset(), length_limit=len(prompt) + num_tokens
    )


def jain(loads: list[int]) -> float:
    return sum(loads) ** 2 / (len(loads) * sum(load**2 for load in loads))


def loads_of(engine: ReplicatedEngine) -> list[int]:
    return [len(replica.running) for replica in engine.replicas]


def guessing(opened: Opened, expected: list[int], dice: random.Random) -> Callable[[], None]:
    """A device that guesses right, wrong, late or not at all."""

    def on_commit() -> None:
        at = len(opened.said) - dice.choice([0, 0, 0, 1])
        guesses = [token if dice.random() < 0.8 else token ^ 1 for token in expected[at : at + 4]]
        if guesses and dice.random() < 0.7:
            opened.hint(guesses, behind=opened.text.committed(0, opened.text.prompt_length + at))

    return on_commit


async def _kill_schedule(seed: int) -> tuple[int, int]:
    """Texts in mid-stream over replicas that are killed, or fall silent; (losses seen, moved texts)."""
    dice = random.Random(seed)
    async with replicas(4, restart_s=dice.choice([0.2, 2.0]), silent_s=2.0) as (engine, workers):
        subject = Subject(engine=engine, running=None, answer=ANSWER, prompts=(), run_ahead=256)  # type: ignore[arg-type]
        requests = [request(number, dice.randint(30, 200), dice.choice([0.0, 1.0])) for number in range(16)]
        texts = []
        for number, wanted in enumerate(requests):
            opened = subject.open(wanted, owner=f"owner-{number}", acknowledges=dice.random() < 0.9)
            opened.on_commit = guessing(opened, ANSWER(wanted), dice)
            texts.append(opened)
        for _ in range(dice.randint(1, 6)):
            await asyncio.sleep(dice.uniform(0.05, 1))
            for worker in dice.sample(workers.workers, dice.choice([1, 1, 2, 4])):
                if dice.random() < 0.7:
                    worker.kill()
                else:
                    worker.is_cut = True
        for opened, wanted in zip(texts, requests, strict=True):
            assert await opened.finish() == ANSWER(wanted)
        num_lives = sum(replica.num_lives - 1 for replica in engine.replicas)
        return num_lives, sum(replica.num_opened for replica in engine.replicas) - len(texts)


@pytest.mark.parametrize("seed", range(12))
def test_texts_do_not_see_their_engines_die(seed: int) -> None:
    num_lost, num_moved = run_virtual(_kill_schedule(seed), limit_s=300.0)
    assert num_lost > 0
    assert num_moved > 0


@in_virtual_time
async def test_work_is_spread_and_after_a_loss_it_is_spread_again() -> None:
    async with replicas(4) as (engine, workers):
        subject = Subject(engine=engine, running=None, answer=ANSWER, prompts=(), run_ahead=256)  # type: ignore[arg-type]
        texts = [subject.open(request(number, 250), owner=f"owner-{number}") for number in range(64)]
        await asyncio.sleep(2)
        assert loads_of(engine) == [16] * 4
        workers.workers[1].kill()
        await asyncio.sleep(0.6)
        assert sorted(loads_of(engine)) == [0, 21, 21, 22]
        await asyncio.sleep(2)
        assert jain(loads_of(engine)) >= 0.99
        for number, opened in enumerate(texts):
            assert await opened.finish() == ANSWER(request(number, 250))


async def _chat(engine: ReplicatedEngine, num_turns: int, owner: str = "chat") -> tuple[int, int]:
    """(tokens of prompts, tokens of these that were found in a cache)."""
    said: tuple[int, ...] = tuple(range(40))
    num_prompt, num_hit = 0, engine.stats.num_hit
    for turn in range(num_turns):
        wanted = request(turn, 1)
        prompt = (*said, *wanted.prompt)
        wanted = DecodeRequest(
            prompt=prompt, sampling=Sampling(), stop_ids=frozenset(), length_limit=len(prompt) + 30
        )
        answer = await Opened(engine, wanted, prompt, owner=owner).finish()
        assert answer == ANSWER(wanted)
        num_prompt += len(prompt)
        said = (*prompt, *answer)
        await asyncio.sleep(1.0)
    return num_prompt, engine.stats.num_hit - num_hit


@in_virtual_time
async def test_a_chat_stays_where_its_cache_is() -> None:
    async with replicas(1) as (alone, _), replicas(4) as (engine, workers):
        assert await _chat(engine, 10) == await _chat(alone, 10), "as many hits as with one engine"
        (home,) = (replica for replica in engine.replicas if replica.num_opened)
        workers.workers[home.index].kill()
        await asyncio.sleep(3)
        num_prompt, num_hit = await _chat(engine, 3)
        assert 0 < num_hit < num_prompt, "what was there is gone; the turns after find each other"
        assert (await _chat(engine, 3, owner="somebody else"))[1] < num_hit + num_prompt


@in_virtual_time
async def test_a_chat_leaves_a_replica_that_has_too_much_to_do() -> None:
    async with replicas(2) as (engine, _):
        await _chat(engine, 2)
        home, other = sorted(engine.replicas, key=lambda replica: -replica.num_opened)
        for number in range(8):
            engine.open(
                request(number, 2000),
                request(number, 1).prompt,
                owner=f"owner-{number}",
                patience_s=0.0,
                on_commit=lambda committed: None,
                on_failure=lambda error: None,
            )
        assert loads_of(engine) == [4, 4]
        engine.close(next(iter(other.running)))
        num_opened = home.num_opened
        await _chat(engine, 1)
        assert home.num_opened == num_opened + 1, "a text more is no reason to leave"
        for text in list(other.running):
            engine.close(text)
        await _chat(engine, 1)
        assert home.num_opened == num_opened + 1


@in_virtual_time
async def test_while_no_replica_is_there_texts_wait() -> None:
    async with replicas(2, restart_s=5.0) as (engine, workers):
        before = Opened(engine, request(1, 50), request(1, 1).prompt)
        await asyncio.sleep(0.3)
        for worker in workers.workers:
            worker.kill()
        await asyncio.sleep(1)
        after, closed = (Opened(engine, request(2, 50), request(2, 1).prompt) for _ in range(2))
        engine.close(closed.text)
        assert loads_of(engine) == [0, 0]
        assert not after.said
        assert await before.finish() == ANSWER(request(1, 50))
        assert await after.finish() == ANSWER(request(2, 50))
        assert not closed.said


@in_virtual_time
async def test_an_engine_without_replicas_ends_and_says_so() -> None:
    workers = LocalWorkers(new_engine)
    settings = ReplicaSettings(num_replicas=2, max_attempts=3)
    async with ReplicatedEngine.over(workers, settings) as engine, running(engine) as task:
        await Opened(engine, request(1, 5), request(1, 1).prompt).finish()

        def broken() -> Engine:
            raise EngineError("no more engines")

        workers.new_engine = broken
        for worker in workers.workers:
            worker.kill()
        with pytest.raises(EngineError, match="no replica can be had: each was tried 3 times"):
            await task
        assert not engine.is_alive


@in_virtual_time
async def test_the_first_that_can_serve_begins_whatever_became_of_others() -> None:
    num_made = 0

    def unlucky_once() -> Engine:
        nonlocal num_made
        num_made += 1
        if num_made == 1:
            raise EngineError("the machine has no room for the model")
        return new_engine()

    async with replicas(2, new=unlucky_once) as (engine, _):
        await asyncio.sleep(1)
        assert any(replica.is_up for replica in engine.replicas)


@in_virtual_time
async def test_a_replica_that_serves_something_else_is_not_let_in(caplog: pytest.LogCaptureFixture) -> None:
    targets = iter([TARGET, SyntheticTarget(seed=5, vocab_size=64), TARGET])

    def mixed() -> Engine:
        return BatchEngine(next(targets), PacedRunner(lambda rows: PASS_S))

    async with replicas(2, new=mixed) as (engine, workers):
        await asyncio.sleep(2)
        assert [replica.is_up for replica in engine.replicas].count(True) == 1
        assert "serves synthetic-5-64, and the others serve synthetic-0-64" in caplog.text
        for worker in workers.workers:
            if not engine.replicas[workers.workers.index(worker)].is_up:
                worker.kill()
        await asyncio.sleep(10)
        assert all(replica.is_up for replica in engine.replicas), "the right one is"


@in_virtual_time
async def test_orders_that_were_lost_are_made_good() -> None:
    async with replicas(1) as (engine, workers):
        (worker,) = workers.workers
        first = Opened(engine, request(1, 50), request(1, 1).prompt)
        await first.until(lambda: len(first.said) > 5)
        worker.is_deaf = True
        second = Opened(engine, request(2, 50), request(2, 1).prompt)  # its OPEN is lost
        await asyncio.sleep(0.01)
        worker.is_deaf = False
        assert await second.finish() == ANSWER(request(2, 50))
        assert await first.finish() == ANSWER(request(1, 50))
        assert engine.replicas[0].num_lives == 2
        assert asyncio.get_running_loop().time() > 2, "it was waited for"


@in_virtual_time
async def test_too_many_hints_for_a_replica_that_hangs_are_dropped() -> None:
    async with replicas(1, max_under_way=2, max_gathered=10) as (engine, workers):
        opened = Opened(engine, request(1, 200), request(1, 1).prompt)
        await opened.until(lambda: len(opened.said) > 5)
        workers.workers[0].is_cut = True
        for _ in range(40):
            opened.hint([1, 2, 3])
            await asyncio.sleep(0.01)
        (replica,) = engine.replicas
        assert 3 * (40 - 2 - 10) <= replica.num_dropped <= 3 * (40 - 10)
        assert await opened.finish() == ANSWER(request(1, 200)), "given up, and opened anew"


@in_virtual_time
async def test_a_failure_keeps_its_reason() -> None:
    tight = lambda: new_engine(kv_bytes=TARGET.new_sequence().growth_bytes(30))  # noqa: E731
    async with replicas(2, new=tight) as (engine, _):
        opened = Opened(engine, request(1, 500), request(1, 1).prompt)
        with pytest.raises(AssertionError):
            await opened.finish()
        assert isinstance(opened.failure, MemoryExceeded)
        assert loads_of(engine) == [0, 0]


@pytest.mark.parametrize("seed", range(6))
def test_devices_do_not_see_it_in_any_mode(seed: int) -> None:
    """Lossless and cascade mode through the whole system, while replicas die."""

    async def main() -> None:
        dice = random.Random(seed)
        listener = MemoryListener()
        draft = SyntheticDraft(TARGET, agreement=0.85, seed=seed)
        async with (
            replicas(3, silent_s=2.0) as (engine, workers),
            EdgeServer(engine) as edge,
            Device([listener.dial], draft=draft, runner=PacedRunner(lambda rows: 0.003)) as device,
        ):
            edge.listen(listener)
            killing = asyncio.create_task(kill_now_and_then(workers, dice))
            for quality in (1.0, 0.9):
                prompt = tuple(dice.randrange(60) for _ in range(20))
                policy = Policy.hint_driven(patience_s=dice.choice([0.0, 0.05]))
                stream = device.stream(prompt, max_new_tokens=150, policy=policy, quality=quality)
                async with contextlib.aclosing(aiter(stream)) as tokens:
                    said: list[Token] = [token async for token in tokens]
                assert [token.position for token in said] == list(range(20, 170))
                if quality == 1.0:
                    wanted = DecodeRequest(
                        prompt=prompt, sampling=Sampling(), stop_ids=frozenset(), length_limit=170
                    )
                    assert [token.id for token in said] == ANSWER(wanted)
            killing.cancel()
            await asyncio.gather(killing, return_exceptions=True)

    run_virtual(main(), limit_s=300.0)


async def kill_now_and_then(workers: LocalWorkers, dice: random.Random) -> None:
    while True:
        await asyncio.sleep(dice.uniform(0.1, 1.5))
        dice.choice(workers.workers).kill()


@in_virtual_time
async def test_before_a_machine_goes_down_its_texts_move() -> None:
    async with replicas(2) as (engine, workers):
        texts = [Opened(engine, request(number, 300), request(number, 1).prompt) for number in range(8)]
        await asyncio.sleep(2)
        workers.gone_soon.add("place 0")
        await asyncio.sleep(2.5)
        assert [replica.index for replica in engine.replicas] == [1, 2], "another one came"
        assert loads_of(engine) == [4, 4]
        assert engine.replicas[0].num_lives == 1, "nothing was lost"
        for number, opened in enumerate(texts):
            assert await opened.finish() == ANSWER(request(number, 300))
        assert engine.stats.num_committed >= 8 * 300, "what the first one did counts"


@in_virtual_time
async def test_the_last_replica_leaves_only_when_another_one_is_there() -> None:
    async with replicas(1, restart_s=5.0) as (engine, workers):
        opened = Opened(engine, request(1, 600), request(1, 1).prompt)
        await asyncio.sleep(1)
        workers.gone_soon.add("place 0")
        await asyncio.sleep(4)
        assert opened.text.head > 150, "it goes on where it is"
        assert [replica.index for replica in engine.replicas] == [0, 1]
        await asyncio.sleep(4)
        assert [replica.index for replica in engine.replicas] == [1]
        assert await opened.finish() == ANSWER(request(1, 600))


@in_virtual_time
async def test_replicas_come_and_go_with_the_load() -> None:
    def slow() -> Engine:
        return BatchEngine(TARGET, PacedRunner(lambda rows: 0.2))

    async with replicas(1, new=slow, max_replicas=4, texts_per_replica=4, fewer_after_s=20.0) as (engine, _):
        texts = [Opened(engine, request(number, 500), request(number, 1).prompt) for number in range(16)]
        await asyncio.sleep(10)
        assert loads_of(engine) == [4] * 4
        for opened in texts[2:]:
            engine.close(opened.text)
        await asyncio.sleep(15)
        assert len(engine.replicas) == 4, "not in haste"
        await asyncio.sleep(60)
        assert loads_of(engine) == [2]
        for number, opened in enumerate(texts[:2]):
            assert await opened.finish() == ANSWER(request(number, 500)), "moved, and the same"


@in_virtual_time
async def test_what_was_under_way_when_the_app_said_otherwise_does_not_count() -> None:
    """The device overrules, or knows more from elsewhere, while commits of the old text are on their way."""
    async with replicas(2) as (engine, _):
        for turn in range(20):
            wanted = request(turn, 60)
            begin = len(wanted.prompt)
            opened = Opened(engine, wanted, wanted.prompt, owner=f"owner-{turn}")
            await opened.until(lambda opened=opened, turn=turn: len(opened.said) > 8 + turn % 3)  # type: ignore[misc]
            await asyncio.sleep(0.001 * turn)
            before = (*wanted.prompt, *opened.said[:5])
            if turn % 2:
                other = opened.said[5] ^ 1
                assert engine.overrule(opened.text, begin + 5, HashedText(before).state_before(begin + 5))
                opened.keep([other], [True], may_go_on=True)
                before = (*before, other)
            else:
                before = (*wanted.prompt, *opened.said, *ANSWER(wanted)[len(opened.said) : 20])
                engine.resume(opened.text, before, patience_s=0.0)
            await opened.until(lambda opened=opened: opened.text.is_finished)  # type: ignore[misc]
            rest = dataclasses.replace(wanted, prompt=before)
            assert opened.text.committed() == [*before, *ANSWER(rest)]
            engine.close(opened.text)
        assert [replica.num_lives for replica in engine.replicas] == [1, 1], "and nothing had to be made good"


@in_virtual_time
async def test_what_a_text_may_not_it_may_not_elsewhere() -> None:
    """Go on without being acknowledged, while its owner is held, or where the device has the pen."""
    loop = asyncio.get_running_loop()
    async with replicas(2, new=lambda: new_engine(run_ahead=16)) as (engine, workers):
        held = Opened(engine, request(3, 100), request(3, 1).prompt, owner="held")
        silent = Opened(engine, request(1, 100), request(1, 1).prompt, owner="silent", acknowledges=False)
        kept = Opened(engine, request(2, 100), request(2, 1).prompt, owner="kept")
        kept.keep([5, 6], [True, True], may_go_on=False)
        await asyncio.sleep(1)
        until_s = loop.time() + 10
        engine.hold("held", until_s)
        await asyncio.sleep(1)
        num_committed, said = engine.stats.num_committed, [list(text.said) for text in (held, silent, kept)]
        assert (len(silent.said), kept.said[-2:]) == (16, [5, 6])
        for worker in workers.workers:  # one after the other, so that everybody moves
            worker.kill()
            await asyncio.sleep(2)
        assert engine.stats.num_committed >= num_committed, "what was done was done"
        assert [text.said for text in (held, silent, kept)] == said
        silent.acknowledge()
        kept.keep([7], [True], may_go_on=True)
        assert await silent.finish() == ANSWER(request(1, 100))
        await kept.finish()
        assert kept.said[: len(said[2]) + 1] == [*said[2], 7]
        assert await held.finish() == ANSWER(request(3, 100))
        assert loop.time() > until_s


@in_virtual_time
async def test_who_begins_again_closes_what_was_open() -> None:
    """A replica that was given up, and was only slow, does not decode for nobody."""
    async with replicas(1) as (engine, workers):
        (worker,) = workers.workers
        opened = Opened(engine, request(1, 400), request(1, 1).prompt)
        await opened.until(lambda: len(opened.said) > 5)
        worker.is_deaf = True
        engine.hint(opened.text, 0, 0, (1,))
        await asyncio.sleep(0.01)
        worker.is_deaf = False
        assert await opened.finish() == ANSWER(request(1, 400))
        await asyncio.sleep(1)
        assert engine.stats.num_committed <= 400 + 256 + 16, "twice for a while, and no more"
        assert worker.host is not None
        assert not worker.host.engine._decodes  # type: ignore[attr-defined]


@in_virtual_time
async def test_what_belongs_to_another_life_is_ignored() -> None:
    host = Host(new_engine())
    wanted = request(1, 5)
    opening = orders.Open(0, wanted, wanted.prompt, len(wanted.prompt), "owner", 0.0, 0)
    async with running(host.engine):
        host.begin(1)
        host.begin(2)
        host.take(orders.Batch(1, 0, (opening,)))
        assert (await host.news(2)).num_taken == 0
        await asyncio.sleep(1)
        assert not (await host.news(2)).grown
        with pytest.raises(ReplicaLost, match="another life"):
            await host.news(1)
        with pytest.raises(ReplicaLost, match="a newer life"):
            host.begin(1)
        host.take(orders.Batch(2, 0, (opening,)))
        await asyncio.sleep(1)
        (grown,) = (await host.news(2)).grown
        assert list(grown.tokens) == ANSWER(wanted)
