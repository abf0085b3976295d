"""What a thing hears back, as JSON: `status` and `transaction` as zigbee2mqtt has them."""

from __future__ import annotations

import json
from typing import Any

from ...events import Answer
from .questions import Transaction

__all__ = ["answered", "refused", "waits"]


def answered(answer: Answer, *, by: str, transaction: Transaction) -> str:
    """`by` is edge or device: who decided the text."""
    summary = answer.summary
    data = {
        "answer": answer.text,
        "by": by,
        "finish_reason": summary.finish_reason,
        "tokens": summary.num_tokens,
        "first_token_ms": round(1000 * summary.time_to_first_token_s, 1),
        "ms_per_token": round(1000 * summary.time_per_token_s, 1),
    }
    return _reply({"status": "ok", "data": data}, transaction)


def refused(error: str, transaction: Transaction) -> str:
    """There will be no answer, and why."""
    return _reply({"status": "error", "error": error, "data": {}}, transaction)


def waits(reason: str, transaction: Transaction) -> str:
    """The answer comes later."""
    return _reply({"status": "waiting", "reason": reason, "data": {}}, transaction)


def _reply(fields: dict[str, Any], transaction: Transaction) -> str:
    if transaction is not None:
        fields["transaction"] = transaction
    return json.dumps(fields, ensure_ascii=False)
