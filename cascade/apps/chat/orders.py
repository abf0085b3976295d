"""Lines that begin with a slash are not for the model: they change how it is asked."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from ...errors import SettingsError
from .settings import ChatSettings

__all__ = ["HELP", "Order", "is_order", "obey"]

T = TypeVar("T", int, float)

HELP = """\
/seed N         the same seed gives the same answer; /seed off draws one each time
/temperature T  0 takes the likeliest token; higher is more varied
/tokens N       where an answer ends at the latest
/quality Q      1: every token is the edge's own; below, down to 0.5, the device keeps some of its own
/system TEXT    tell the model something first; begins a new conversation
/private on     the device answers alone, and nothing leaves it; begins a new conversation; off
/facts          how the last answer went
/clear          begin a new conversation
/quit           leave; so does Ctrl-D. Ctrl-C stops an answer, and leaves where there is none
//...           a question that begins with a slash"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What an order changes."""

    settings: ChatSettings
    says: str = ""
    is_new: bool = False
    """The conversation begins anew."""
    is_over: bool = False
    wants_facts: bool = False


def is_order(line: str) -> bool:
    return line.startswith("/") and not line.startswith("//")


def obey(line: str, settings: ChatSettings) -> Order:
    """Raises `SettingsError` where there is no such order, or its value is impossible."""
    name, _, value = line.removeprefix("/").partition(" ")
    value = value.strip()
    match name:
        case "help" | "?":
            return Order(settings=settings, says=HELP)
        case "quit" | "exit" | "bye":
            return Order(settings=settings, is_over=True)
        case "clear" | "new":
            return Order(settings=settings, is_new=True, says="a new conversation")
        case "facts":
            return Order(settings=settings, wants_facts=True)
        case "seed":
            seed = None if value in ("", "off") else _number(name, value, int)
            says = "another seed each time" if seed is None else f"seed {seed}"
            return Order(settings=dataclasses.replace(settings, seed=seed), says=says)
        case "temperature":
            temperature = _number(name, value, float)
            changed = dataclasses.replace(settings, temperature=temperature)
            return Order(settings=changed, says=f"temperature {temperature:g}")
        case "tokens":
            num_tokens = _number(name, value, int)
            changed = dataclasses.replace(settings, max_new_tokens=num_tokens)
            return Order(settings=changed, says=f"at most {num_tokens} tokens an answer")
        case "quality":
            return _set_quality(settings, _number(name, value, float))
        case "system":
            changed = dataclasses.replace(settings, system=value)
            return Order(settings=changed, is_new=True, says="a new conversation")
        case "private":
            return _set_private(settings, value or "on")
        case _:
            raise SettingsError("/" + name[:32], "there is no such order; /help lists them")


def _set_quality(settings: ChatSettings, quality: float) -> Order:
    changed = dataclasses.replace(settings, quality=quality)
    if quality == 1:
        return Order(settings=changed, says="quality 1: every token is the edge's own")
    return Order(
        settings=changed,
        says=f"quality {quality:g}: at least this share of tokens is the edge's own, all in all",
    )


def _set_private(settings: ChatSettings, value: str) -> Order:
    """Never in the middle of a conversation: going on at the edge would send what was said in private."""
    if value not in ("on", "off"):
        raise SettingsError("/private", f"must be on or off, not {value[:32]!r}")
    changed = dataclasses.replace(settings, is_private=value == "on")
    says = "from here on nothing leaves this device" if changed.is_private else "the edge answers again"
    return Order(settings=changed, is_new=True, says=f"a new conversation; {says}")


def _number(name: str, value: str, kind: Callable[[str], T]) -> T:
    try:
        return kind(value)
    except ValueError:
        raise SettingsError("/" + name, f"needs a number, such as /{name} 1, not {value[:32]!r}") from None
