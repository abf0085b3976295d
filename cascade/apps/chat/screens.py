"""Where a conversation goes when nobody looks at a terminal: the bare answers, or lines of JSON."""

from __future__ import annotations

import json
import sys
from typing import Any, Protocol

from ...device import AnswerStream
from ...events import Summary, Token

__all__ = ["JsonScreen", "PlainScreen", "Screen"]


class Screen(Protocol):
    """Shows a conversation. Between `begin` and `end`, tokens."""

    def greet(self, model: str, problem: str) -> None:
        """Once: which model answers, or why none does yet."""

    def note(self, text: str) -> None:
        """About the conversation, not of it."""

    def begin(self) -> None: ...

    def wait(self, problem: str) -> None:
        """Nothing has come for a moment, and why, as far as anybody knows."""

    def token(self, token: Token, stream: AnswerStream) -> None: ...

    def end(self, question: str, stream: AnswerStream) -> None:
        """Complete, stopped or failed: `stream.summary` knows."""


class PlainScreen:
    """Answers alone go to standard output, so that a pipe has nothing else in it."""

    def __init__(self) -> None:
        self._is_line_open = False

    def greet(self, model: str, problem: str) -> None:
        pass

    def note(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def begin(self) -> None:
        self._is_line_open = False

    def wait(self, problem: str) -> None:
        pass

    def token(self, token: Token, stream: AnswerStream) -> None:
        if token.text:
            print(token.text, end="", flush=True)
            self._is_line_open = not token.text.endswith("\n")

    def end(self, question: str, stream: AnswerStream) -> None:
        if self._is_line_open:
            print(flush=True)


class JsonScreen:
    """An object a line: `token`s as they come, then the `answer`."""

    def greet(self, model: str, problem: str) -> None:
        _say("ready", edge_model=model, problem=problem)

    def note(self, text: str) -> None:
        _say("note", text=text)

    def begin(self) -> None:
        pass

    def wait(self, problem: str) -> None:
        pass

    def token(self, token: Token, stream: AnswerStream) -> None:
        _say(
            "token",
            text=token.text,
            token=token.id,
            position=token.position,
            source=token.source.value,
            agreement=None if token.agreement is None else round(token.agreement, 4),
        )

    def end(self, question: str, stream: AnswerStream) -> None:
        _say(
            "answer",
            question=question,
            text=stream.text,
            seed=stream.request.sampling.seed,
            **_facts(stream.summary),
        )


def _facts(summary: Summary) -> dict[str, Any]:
    rtt_s = summary.rtt_s
    return {
        "finish_reason": summary.finish_reason,
        "tokens": summary.num_tokens,
        "hinted": summary.num_hinted,
        "kept": summary.num_kept,
        "first_token_ms": round(1000 * summary.time_to_first_token_s, 1),
        "ms_per_token": round(1000 * summary.time_per_token_s, 1),
        "rtt_ms": None if rtt_s is None else round(1000 * rtt_s, 1),
        "bytes_up": summary.bytes_up,
        "bytes_down": summary.bytes_down,
    }


def _say(event: str, **content: Any) -> None:
    print(json.dumps({"event": event, **content}, ensure_ascii=False), flush=True)
