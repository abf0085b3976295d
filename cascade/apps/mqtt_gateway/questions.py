"""A question as it comes in a message: plain text, or a JSON object with options. Bytes in, records out."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from ...device.options import StreamOptions
from ...errors import SettingsError
from ...settings import check_choice, check_int, check_number
from .settings import GatewaySettings

__all__ = ["WHEN_AWAY", "BadQuestion", "Question", "read_question"]

FIELDS = (
    *("question", "system", "transaction", "max_tokens", "temperature", "top_k", "top_p", "min_p"),
    *("seed", "stop", "stream", "retain", "when_away"),
)
WHEN_AWAY = ("wait", "device")
MAX_TRANSACTION_CHARACTERS = 256

Transaction = str | int | None


class BadQuestion(SettingsError):
    """A message that is no question; `transaction` is what it was called, if that could be read."""

    transaction: Transaction = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What a thing wants to know, and how."""

    thing: str
    text: str
    system: str
    options: StreamOptions
    transaction: Transaction = None
    """Comes back with the answer, so that a thing knows which one it is."""
    is_streamed: bool = True
    """Its text is published as it comes, too."""
    is_retained: bool = False
    """The broker keeps the answer for who subscribes later."""
    when_away: str = "wait"
    """`device`: while the edge is away the draft may answer."""


def read_question(thing: str, payload: bytes, settings: GatewaySettings) -> Question:
    """Raises `BadQuestion`, which says what would be right."""
    if len(payload) > settings.max_question_bytes:
        text = f"is {len(payload)} bytes long; at most {settings.max_question_bytes} are read"
        raise BadQuestion("question", text)
    try:
        text = payload.decode().strip()
    except UnicodeDecodeError:
        raise BadQuestion("question", "must be UTF-8 text, or a JSON object") from None
    fields = _fields(text) if text.startswith("{") else {"question": text}
    transaction = fields.get("transaction")
    try:
        return _question(thing, fields, settings)
    except SettingsError as error:
        bad = BadQuestion(error.field, error.reason)
        if _is_transaction(transaction):
            bad.transaction = transaction
        raise bad from None


def _fields(text: str) -> dict[str, Any]:
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = error if isinstance(error, ValueError) else "too deep"
        raise BadQuestion("question", f"begins like a JSON object and is none: {reason}") from None
    assert isinstance(fields, dict)  # it begins with a brace
    return fields


def _question(thing: str, fields: dict[str, Any], settings: GatewaySettings) -> Question:
    for name in fields:
        if name not in FIELDS:
            raise SettingsError(name[:64], f"unknown; a question may have {', '.join(FIELDS)}")
    text, system = fields.get("question"), fields.get("system", settings.system)
    if not isinstance(text, str) or not text.strip():
        raise SettingsError("question", 'is missing: send a text, or {"question": "..."}')
    if not isinstance(system, str):
        raise SettingsError("system", "must be a text")
    transaction = fields.get("transaction")
    if not _is_transaction(transaction):
        reason = f"must be a number or a text of at most {MAX_TRANSACTION_CHARACTERS} characters"
        raise SettingsError("transaction", reason)
    for name in ("stream", "retain"):
        if not isinstance(fields.get(name, False), bool):
            raise SettingsError(name, "must be true or false")
    when_away = fields.get("when_away", "wait")
    check_choice("when_away", when_away, WHEN_AWAY)
    return Question(
        thing=thing,
        text=text.strip(),
        system=system,
        options=_options(fields, settings),
        transaction=transaction,
        is_streamed=fields.get("stream", True),
        is_retained=fields.get("retain", False),
        when_away=when_away,
    )


def _options(fields: dict[str, Any], settings: GatewaySettings) -> StreamOptions:
    wanted = fields.get("max_tokens", settings.usual_new_tokens)
    check_int("max_tokens", wanted, low=1, high=settings.max_new_tokens)
    options: StreamOptions = {"max_new_tokens": wanted}
    if "temperature" in fields:
        check_number("temperature", fields["temperature"], low=0, high=10)
        options["temperature"] = fields["temperature"]
    if "top_k" in fields:
        check_int("top_k", fields["top_k"], low=0)
        options["top_k"] = fields["top_k"]
    if "top_p" in fields:
        check_number("top_p", fields["top_p"], low=1e-6, high=1)
        options["top_p"] = fields["top_p"]
    if "min_p" in fields:
        check_number("min_p", fields["min_p"], low=0, high=1)
        options["min_p"] = fields["min_p"]
    if "seed" in fields:
        check_int("seed", fields["seed"], low=0, high=2**64 - 1)
        options["seed"] = fields["seed"]
    if "stop" in fields:
        stop = fields["stop"]
        stops = [stop] if isinstance(stop, str) else stop
        if not isinstance(stops, list) or not all(isinstance(one, str) and one for one in stops):
            raise SettingsError("stop", "must be a text or a list of texts, none of them empty")
        options["stop"] = stops
    return options


def _is_transaction(value: Any) -> bool:
    if isinstance(value, str):
        return len(value) <= MAX_TRANSACTION_CHARACTERS
    return value is None or (isinstance(value, int) and not isinstance(value, bool))
