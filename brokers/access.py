"""The access list that we ship, for brokers that we start.

`conf/mosquitto/acl` is the one statement of who may do what. mosquitto reads it as it is, the embedded broker
reads it here, with mosquitto's meaning. Its blocks for `edge-1` and `gateway-1` are the models of all edges'
and all gateways'.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from cascade.errors import SettingsError

__all__ = ["CONF", "AccessList", "access_list_text"]

CONF = Path(__file__).parent / "conf"
MODEL_EDGE, MODEL_GATEWAY = "edge-1", "gateway-1"
_PLAIN_NAME = re.compile(r"[^/+#\s]+")


def access_list_text(edges: Iterable[str], gateways: Iterable[str] = ()) -> str:
    """The shipped list, with a block for each of these edges and gateways instead of the models'."""
    shipped = (CONF / "mosquitto" / "acl").read_text(encoding="utf-8")
    everybody, gateway, rest = shipped.partition(f"user {MODEL_GATEWAY}\n")
    gateway_block, edge, edge_block = rest.partition(f"user {MODEL_EDGE}\n")
    if not gateway or not edge:
        raise SettingsError("acl", f"the shipped list has no block for {MODEL_GATEWAY} or {MODEL_EDGE}")
    blocks = [(gateway + gateway_block).replace(MODEL_GATEWAY, name) for name in gateways]
    blocks += [(edge + edge_block).replace(MODEL_EDGE, name) for name in edges]
    return everybody + "\n".join(blocks)


class AccessList:
    """Rules in the form of mosquitto's `acl_file`."""

    def __init__(self, text: str) -> None:
        self._patterns: list[tuple[str, str]] = []
        self._rules: dict[str, list[tuple[str, str]]] = {}
        user = ""
        for number, line in enumerate(text.splitlines(), 1):
            words = line.split()
            if not words or words[0].startswith("#"):
                continue
            match words:
                case ["user", name]:
                    user = name
                case ["topic" | "pattern" as kind, "read" | "write" | "readwrite" as access, topic]:
                    rules = self._patterns if kind == "pattern" else self._rules.setdefault(user, [])
                    rules.append((access, topic))
                case _:
                    raise SettingsError("acl", f"line {number} is not understood: {line.strip()!r}")

    def allows(self, user: str, access: str, topic: str) -> bool:
        """May this account `read` or `write` the topic? A filter may be asked for, too: then all that it
        matches.
        """
        return any(_covers(rule.split("/"), topic.split("/")) for rule in self._rules_of(user, access))

    def _rules_of(self, user: str, access: str) -> Iterable[str]:
        if user and _PLAIN_NAME.fullmatch(
            user
        ):  # a name that means something in a topic would widen its rules
            yield from (topic.replace("%u", user) for kind, topic in self._patterns if access in kind)
        yield from (topic for kind, topic in self._rules.get(user, ()) if access in kind)


def _covers(rule: list[str], asked: list[str]) -> bool:
    for number, level in enumerate(rule):
        if level == "#":
            return True
        if number >= len(asked) or asked[number] == "#" or level not in ("+", asked[number]):
            return False
    return len(rule) == len(asked)
