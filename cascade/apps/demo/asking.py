"""A question to the gateway, and its answer as it comes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from ...errors import CascadeError, LinkError

__all__ = ["Piece", "Run", "ask"]

FIRST_WAIT_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """One token."""

    text: str
    source: str
    agreement: float | None
    window: int
    rtt_ms: float | None


@dataclass(slots=True, kw_only=True)
class Run:
    """One answer, complete or on its way."""

    mode: str
    hints: int | None = None
    pieces: list[Piece] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    """The gateway's keys `timings` and `cascade`, once it is complete."""

    @property
    def text(self) -> str:
        return "".join(piece.text for piece in self.pieces)

    @property
    def agreement(self) -> float:
        """The mean chance that a guess is right, as the device saw it; a half where it guessed nothing."""
        chances = [piece.agreement for piece in self.pieces if piece.agreement is not None]
        return sum(chances) / len(chances) if chances else 0.5

    @property
    def figures(self) -> dict[str, Any]:
        """For the table and for programs."""
        timings, ours = self.facts["timings"], self.facts["cascade"]
        num_tokens = timings["predicted_n"]
        return {
            "mode": self.mode,
            "hints": self.hints,
            "tokens": num_tokens,
            "first_token_ms": timings["prompt_ms"],
            "ms_per_token": timings["predicted_per_token_ms"],
            "passes": num_tokens - ours["hinted"] - ours["kept"],
            "hinted": ours["hinted"],
            "payload_bytes_per_token": round((ours["bytes_up"] + ours["bytes_down"]) / max(1, num_tokens), 1),
            "rtt_ms": ours.get("rtt_ms"),
            "edge_pass_ms": ours.get("edge_pass_ms"),
            "draft_step_ms": ours.get("draft_step_ms"),
            "text": self.text,
        }


async def ask(
    session: aiohttp.ClientSession,
    url: str,
    prompt: str,
    *,
    mode: str,
    max_tokens: int,
    hints: int | None = None,
    show: Callable[[Run], None] | None = None,
) -> Run:
    """Stream an answer at temperature 0; `show` sees the run grow."""
    run = Run(mode=mode, hints=hints)
    how = {"mode": mode} if hints is None else {"mode": mode, "hints": hints}
    content = {
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": max_tokens,
        "temperature": 0,
        "stream": True,
        "cascade": how,
    }
    timeout = aiohttp.ClientTimeout(total=None, sock_read=FIRST_WAIT_S)
    try:
        async with session.post(f"{url}/chat/completions", json=content, timeout=timeout) as answer:
            if answer.status != 200:
                raise CascadeError((await answer.json())["error"]["message"])
            async for line in answer.content:
                if line.startswith(b"data: {"):
                    _take(run, json.loads(line.removeprefix(b"data: ")))
                    if show is not None:
                        show(run)
    except (aiohttp.ClientError, TimeoutError) as error:
        raise LinkError(f"the gateway went silent: {str(error) or type(error).__name__}") from None
    if not run.facts:
        raise LinkError("the gateway ended in the middle of an answer")
    return run


def _take(run: Run, event: dict[str, Any]) -> None:
    if "error" in event:
        raise CascadeError(event["error"]["message"])
    (choice,) = event["choices"]
    if choice["finish_reason"] is not None:
        run.facts = {"timings": event["timings"], "cascade": event["cascade"]}
    elif "cascade" in event:
        about = event["cascade"]
        run.pieces.append(
            Piece(
                text=choice["delta"]["content"],
                source=about["source"],
                agreement=about["agreement"],
                window=about["window"],
                rtt_ms=about["rtt_ms"],
            )
        )
