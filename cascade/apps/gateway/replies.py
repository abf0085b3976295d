"""What clients get: OpenAI's objects, with our facts beside them under keys of their own.

`timings` has llama.cpp's names, so what draws those draws ours. `cascade` says where tokens came from, and
what link and edge were like.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

from ...device import AnswerStream
from ...events import Account, Summary, Token
from .dates import now_s

__all__ = ["Reply", "facts"]


class Reply:
    """One answer's objects, of which all name the same id, date and model."""

    def __init__(
        self, stream: AnswerStream, *, is_chat: bool, model: str, served_model: Callable[[], str]
    ) -> None:
        self._stream = stream
        self._is_chat = is_chat
        self.id = f"{'chatcmpl' if is_chat else 'cmpl'}-{secrets.token_hex(12)}"
        self._always = {"id": self.id, "created": now_s(), "model": model}
        self._served_model = served_model
        self._logprobs: list[tuple[str, float]] = []
        """Of the tokens noted, where they were asked for."""
        self._num_characters = 0
        """Of the answer, in tokens told with their log-probabilities."""

    @property
    def _common(self) -> dict[str, Any]:
        """Which model answers is known when the edge has said its first word."""
        return {**self._always, "system_fingerprint": self._served_model() or None}

    def note(self, token: Token) -> None:
        """One that the whole answer will speak of."""
        if token.logprob is not None:
            self._logprobs.append((token.text, token.logprob))

    def whole(self) -> dict[str, Any]:
        """The answer in one piece."""
        stream = self._stream
        choice: dict[str, Any] = {
            "index": 0,
            "logprobs": self._in_openais_shape(self._logprobs),
            "finish_reason": stream.summary.finish_reason,
        }
        if self._is_chat:
            choice["message"] = {"role": "assistant", "content": stream.text, "refusal": None}
        else:
            choice["text"] = stream.text
        return {
            **self._common,
            "object": "chat.completion" if self._is_chat else "text_completion",
            "choices": [choice],
            "usage": self._usage(),
            **self._ours(),
        }

    def first(self, *, includes_ids: bool = False) -> dict[str, Any]:
        """Before the first token: who speaks, and the prompt's token ids for those who will go on later."""
        content: dict[str, Any] = (
            {"delta": {"role": "assistant", "content": ""}} if self._is_chat else {"text": ""}
        )
        prompt = {"cascade": {"prompt": list(self._stream.request.prompt)}} if includes_ids else {}
        return self._chunk(content) | prompt

    def piece(self, token: Token) -> dict[str, Any]:
        """One token. Its text may be empty: a character may take several."""
        rtt_s = self._stream.summary.rtt_s
        about = {
            "token": token.id,
            "position": token.position,
            "source": token.source.value,
            "agreement": None if token.agreement is None else round(token.agreement, 4),
            "window": self._stream.num_ahead,
            "rtt_ms": _ms(rtt_s),
        }
        content = {"delta": {"content": token.text}} if self._is_chat else {"text": token.text}
        self._logprobs.clear()
        self.note(token)
        return self._chunk(content, logprobs=self._in_openais_shape(self._logprobs)) | {"cascade": about}

    def last(self) -> dict[str, Any]:
        """Behind the last token: why it ended, and how it went."""
        content: dict[str, Any] = {"delta": {}} if self._is_chat else {"text": ""}
        return self._chunk(content, finish_reason=self._stream.summary.finish_reason) | self._ours()

    def usage(self) -> dict[str, Any]:
        """After everything, for those who asked."""
        return self._chunk(None) | {"choices": [], "usage": self._usage()}

    def _chunk(
        self,
        content: dict[str, Any] | None,
        finish_reason: str | None = None,
        logprobs: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        choice = {"index": 0, **(content or {}), "logprobs": logprobs, "finish_reason": finish_reason}
        kind = "chat.completion.chunk" if self._is_chat else "text_completion"
        return {**self._common, "object": kind, "choices": [choice]}

    def _in_openais_shape(self, found: list[tuple[str, float]]) -> dict[str, Any] | None:
        """A token's text is what it adds to the answer, so it may be empty and the next one's longer."""
        if not self._stream.request.wants_logprobs:
            return None
        if self._is_chat:
            content = [
                {"token": text, "logprob": logprob, "bytes": list(text.encode()), "top_logprobs": []}
                for text, logprob in found
            ]
            return {"content": content, "refusal": None}
        offsets = []
        for text, _ in found:
            offsets.append(self._num_characters)
            self._num_characters += len(text)
        return {
            "tokens": [text for text, _ in found],
            "token_logprobs": [logprob for _, logprob in found],
            "top_logprobs": None,
            "text_offset": offsets,
        }

    def _usage(self) -> dict[str, int]:
        num_prompt, num_answer = len(self._stream.request.prompt), self._stream.summary.num_tokens
        return {
            "prompt_tokens": num_prompt,
            "completion_tokens": num_answer,
            "total_tokens": num_prompt + num_answer,
        }

    def _ours(self) -> dict[str, Any]:
        summary = self._stream.summary
        return {"timings": _timings(summary, len(self._stream.request.prompt)), "cascade": facts(summary)}


def facts(summary: Summary) -> dict[str, Any]:
    """A stream's summary, in milliseconds and without what is not known."""
    known = {
        "hinted": summary.num_hinted,
        "driven": summary.num_tokens - summary.num_hinted - summary.num_kept,
        "kept": summary.num_kept,
        "drafted": summary.num_drafted,
        "tokens_per_pass": _rounded(summary.tokens_per_pass),
        "bytes_up": summary.bytes_up,
        "bytes_down": summary.bytes_down,
        "opens": summary.num_opens,
        "rtt_ms": _ms(summary.rtt_s),
        "jitter_ms": _ms(summary.jitter_s),
        "edge_pass_ms": _ms(summary.edge_pass_s),
        "draft_step_ms": _ms(summary.draft_step_s),
        "estimated_cloud_ms_per_token": _ms(summary.estimated_cloud_s_per_token),
        "estimated_speedup": _rounded(summary.estimated_speedup),
        "account": None if summary.account is None else _books(summary.account),
    }
    return {name: value for name, value in known.items() if value is not None}


def _books(account: Account) -> dict[str, Any]:
    """The ledger of cascade mode."""
    return {
        "quality": account.quality,
        "least_quality": round(account.least_quality, 6),
        "delivered": account.num_delivered,
        "lossless": account.num_lossless,
        "disputed": account.num_disputed,
        "unaudited": account.num_unaudited,
        "provisional": account.num_provisional,
    }


def _timings(summary: Summary, num_prompt: int) -> dict[str, Any]:
    """llama.cpp's. The prompt's time is that to the first token, the link and the queue included."""
    per_token_s = summary.time_per_token_s
    return {
        "prompt_n": num_prompt,
        "prompt_ms": _ms(summary.time_to_first_token_s),
        "predicted_n": summary.num_tokens,
        "predicted_ms": _ms(per_token_s * max(0, summary.num_tokens - 1)),
        "predicted_per_token_ms": _ms(per_token_s),
        "predicted_per_second": _rounded(1 / per_token_s) if per_token_s > 0 else None,
        "draft_n": summary.num_drafted,
        "draft_n_accepted": summary.num_hinted,
    }


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)


def _rounded(number: float | None) -> float | None:
    return None if number is None else round(number, 3)
