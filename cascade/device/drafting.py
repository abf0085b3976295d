"""The drafter at work for a stream: step after step while they are wanted, whatever comes meanwhile."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from ..errors import ContextExceeded
from ..measure import Knowledge
from ..models.runner import Runner
from .drafter import Drafter, Guess
from .effort import with_effort
from .guesses import Guesses
from .tally import Tally
from .timer import Timer

__all__ = ["Drafting"]

log = logging.getLogger(__name__)


class Drafting:
    """Runs steps from the moment for which one was wished, and hands over what they guess.

    A guess that continues a text that is no more is dropped. A draft that fails, or is full, is done with:
    `on_failure` is called once, and nothing any more.
    """

    def __init__(
        self,
        drafter: Drafter,
        runner: Runner,
        guesses: Guesses,
        *,
        knowledge: Knowledge,
        tally: Tally,
        on_guess: Callable[[Guess, float], None],
        on_failure: Callable[[], None],
    ) -> None:
        self._drafter = drafter
        self._runner = runner
        self._guesses = guesses
        self._known = knowledge
        self._tally = tally
        self._on_guess = on_guess
        self._on_failure = on_failure
        self._loop = asyncio.get_running_loop()
        self._may_step = asyncio.Event()
        self._timer = Timer(self._may_step.set)
        self._was_rolled_back = False
        """During the step that runs."""
        self._has_ended = False

    def wish(self, at_s: float | None) -> None:
        """The next step is to begin then, whatever was wished before; None: not before another wish."""
        self._timer.stop()
        self._may_step.clear()
        if at_s is None:
            return
        if at_s <= self._loop.time():
            self._may_step.set()
        else:
            self._timer.set(at_s)

    def roll_back(self, position: int) -> None:
        """The text changed from this position on."""
        self._was_rolled_back = True
        self._drafter.roll_back(position)

    def end(self) -> None:
        """No other step begins, and nothing comes of the one that runs."""
        self._timer.stop()
        self._has_ended = True
        self._may_step.set()

    async def run(self) -> None:
        """Until `end`."""
        try:
            while True:
                await self._may_step.wait()
                if self._has_ended:
                    return
                await self._step()
        except ContextExceeded as error:
            log.info("no more drafting: %s", error)
            self._on_failure()
        except Exception as error:
            log.warning("no more drafting: the draft model failed: %r", error, exc_info=error)
            self._on_failure()
        finally:
            self._drafter.release()

    async def _step(self) -> None:
        self._was_rolled_back = False
        began_s = self._loop.time()
        work, num_rows = self._drafter.step(self._guesses.tokens)
        done = await self._runner.run(with_effort(work, self._loop.time), rows=num_rows)
        now_s = self._loop.time()
        self._known.draft_step_s.add(now_s - began_s)
        self._known.load.add(done.waited_s, done.seconds)
        self._tally.count_step(now_s - began_s, waited_s=done.waited_s)
        if not self._was_rolled_back and not self._has_ended:
            self._on_guess(done.result, now_s)
