"""An answer that stays on the device: the draft alone decides, and there is nobody to tell."""

from __future__ import annotations

import asyncio
import logging

from ..errors import ContextExceeded, ModelError
from ..events import Source, Summary
from ..models.runner import Runner
from .answer_text import AnswerText
from .answering import AnswerStream
from .drafter import Drafter
from .effort import with_effort
from .ledger import Book
from .outbox import StreamRequest

__all__ = ["AloneStream", "PrivateStream"]

log = logging.getLogger(__name__)


class PrivateStream(AnswerStream):
    """Has no outbox and knows no connection, so it cannot send a byte."""

    def __init__(self, request: StreamRequest, *, drafter: Drafter, runner: Runner, text: AnswerText) -> None:
        super().__init__(request, text, is_plain=False)
        self._tokens = list(request.prompt)
        self._task = asyncio.create_task(self._decide(drafter, runner), name="drafter")

    async def _decide(self, drafter: Drafter, runner: Runner) -> None:
        try:
            while not self.is_ended:
                started_s = self._loop.time()
                work, num_rows = drafter.step(self._tokens)
                done = await runner.run(with_effort(work, self._loop.time), rows=num_rows)
                token, now_s = done.result.token, self._loop.time()
                self._tally.count_step(now_s - started_s, waited_s=done.waited_s)
                if not self.is_ended:
                    self._tokens.append(token)
                    self._note_token()
                    self._deliver(token, len(self._tokens) - 1, Source.KEPT, now_s)
        except ContextExceeded as error:
            self.fail(error)
        except Exception as error:
            log.warning("a private stream's draft model failed: %r", error, exc_info=error)
            self.fail(ModelError(f"the draft model failed: {error!r}; nothing was sent to an edge"))
        finally:
            drafter.release()

    def _note_token(self) -> None:
        """One is about to be delivered."""

    def _answer_tokens(self) -> list[int]:
        return self._tokens[len(self.request.prompt) :]

    def _summarise(self) -> Summary:
        return self._tally.summary(None)


class AloneStream(PrivateStream):
    """The draft answers alone, within a promise: nobody audits its tokens, so the books count all of them as
    disputed. Room for the whole answer was reserved before."""

    def __init__(
        self, request: StreamRequest, *, drafter: Drafter, runner: Runner, text: AnswerText, book: Book
    ) -> None:
        self._book = book
        super().__init__(request, drafter=drafter, runner=runner, text=text)

    def _note_token(self) -> None:
        self._book.note_delivered()

    def _end(self) -> None:
        self._book.give_up(self._tally.num_tokens)
        self._book.release(self.request.max_new_tokens - self._tally.num_tokens)
        super()._end()
