"""What runs in vLLM's own process: after each step it says which hints the next one takes.

vLLM makes a `Proposer` of the speculative configuration (`"method": "custom_class"`) and asks it for drafts.
`CascadeWorker` is mixed into its worker, for the one thing that a proposer is not told: whose row is whose.
The drafts are the device's: the same buffer as in the batch engine decides by prefix hash which are usable.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from typing import Any, Final

from ...wire import MAX_HINT_TOKENS
from ...wire.text import HashedText
from ..hints import HintBuffer
from .bridge import Frame, ProposerEnd

__all__ = ["CascadeWorker", "Proposer", "request_id"]

MAX_TEXTS: Final = 4096
"""Texts that are remembered; beyond it the one that was silent longest is forgotten, with its hints."""
MAX_EARLY: Final = 8
"""Hints of a text of which no token has been decided yet; the oldest are dropped."""


def request_id(text: int, life: int, part: int) -> str:
    """vLLM's name for a piece of a text: which text, which life of it, which request of that life."""
    return f"{text}.{life}.{part}"


class Proposer:
    """Drafts are what devices guessed. Without a hint, or before it is bound, it proposes nothing."""

    def __init__(self, vllm_config: Any) -> None:
        self._max_hints = int(vllm_config.speculative_config.num_speculative_tokens)
        self._max_length = int(vllm_config.model_config.max_model_len)
        self._texts: OrderedDict[int, _Text] = OrderedDict()
        self._end: ProposerEnd | None = None
        self._row_names: Callable[[], Sequence[str]] = tuple
        self._num_fed = 0
        """Hints that the step under way was given."""

    def bind(self, path: str, row_names: Callable[[], Sequence[str]]) -> None:
        """Read hints from this socket from now on; `row_names` are vLLM's ids of the batch's requests."""
        self.close()
        self._end = ProposerEnd(path)
        self._row_names = row_names
        self._texts.clear()

    def close(self) -> None:
        """Propose nothing any more."""
        if self._end is not None:
            self._end.close()
            self._end = None

    def load_model(self, *_args: Any, **_options: Any) -> None:
        """vLLM asks every proposer; there is nothing to load."""

    def propose(
        self,
        sampled_token_ids: list[list[int]],
        num_tokens_no_spec: Any,
        token_ids_cpu: Any,
        slot_mappings: Any = None,
    ) -> list[list[int]]:
        """For each row what may come next; an empty list where there is no usable hint."""
        if self._end is None:
            return [[] for _ in sampled_token_ids]
        for frame in self._end.receive():
            self._take(frame)
        names = self._row_names()
        drafts = [
            self._draft(names[row], token_ids_cpu[row, : num_tokens_no_spec[row]]) if sampled else []
            for row, sampled in enumerate(sampled_token_ids)
        ]
        decided = [len(sampled) for sampled in sampled_token_ids if sampled]
        self._end.report((len(decided), self._num_fed, sum(decided)))
        self._num_fed = sum(map(len, drafts))
        return drafts

    def _take(self, frame: Sequence[Any]) -> None:
        if frame[0] == Frame.HINT:
            _, text, position, prefix_hash, tokens = frame
            self._text(text).offer(position, prefix_hash, tuple(tokens))
        elif frame[0] == Frame.OVER:
            self._texts.pop(frame[1], None)

    def _draft(self, name: str, tokens: Any) -> list[int]:
        text, life, _ = name.partition("-")[0].split(".")
        room = min(self._max_hints, self._max_length - len(tokens) - 1)
        return self._text(int(text)).continued(int(life), tokens, max(0, room))

    def _text(self, text: int) -> _Text:
        known = self._texts.get(text)
        if known is None:
            known = self._texts[text] = _Text()
            if len(self._texts) > MAX_TEXTS:
                self._texts.popitem(last=False)
        self._texts.move_to_end(text)
        return known


class _Text:
    """One text as vLLM has it, and the hints behind it."""

    def __init__(self) -> None:
        self._life = -1
        self._buffer: HintBuffer | None = None
        self._early: deque[tuple[int, int, tuple[int, ...]]] = deque(maxlen=MAX_EARLY)

    def offer(self, position: int, prefix_hash: int, tokens: tuple[int, ...]) -> None:
        if self._buffer is None:
            self._early.append((position, prefix_hash, tokens))
        else:
            self._buffer.offer(position, prefix_hash, tokens)

    def continued(self, life: int, tokens: Any, limit: int) -> list[int]:
        """The usable hints behind these tokens, at most `limit` of them."""
        buffer = self._buffer
        if buffer is None:
            buffer = self._buffer = HintBuffer(HashedText(tokens.tolist()), max_tokens=MAX_HINT_TOKENS)
            while self._early:
                buffer.offer(*self._early.popleft())
        elif life != self._life or len(tokens) < buffer.head:
            buffer.rewrite(tuple(tokens.tolist()))  # it was taken up again, perhaps with other tokens
        else:
            buffer.commit(tokens[buffer.head :].tolist())
        self._life = life
        return buffer.usable(limit)


class CascadeWorker:
    """Mixed into vLLM's worker (`worker_extension_cls`), whose runner it knows."""

    model_runner: Any

    def cascade_bind(self, path: str) -> bool:
        """Give the proposer its socket, and the names of its rows. Called once the server listens."""
        runner = self.model_runner
        runner.drafter.bind(path, lambda: runner.input_batch.req_ids)
        return True
