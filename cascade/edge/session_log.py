"""One JSON object for each session that is over: figures, and nothing of its text."""

from __future__ import annotations

import json
import logging

from .session import Session

__all__ = ["log_end"]

session_log = logging.getLogger("cascade.sessions")


def log_end(session: Session, reason: str, now_s: float) -> None:
    record = session.record
    fields = {
        "event": "session",
        "identity": session.identity,
        "session": session.key[1].hex(),
        "reason": reason,
        "prompt_tokens": record.num_prompt,
        "tokens": record.num_tokens,
        "hinted_tokens": record.num_hinted,
        "opens": record.num_opens,
        "first_token_s": None if record.first_token_s is None else round(record.first_token_s, 4),
        "seconds": round(now_s - record.opened_s, 4),
    }
    session_log.info("%s", json.dumps(fields))
