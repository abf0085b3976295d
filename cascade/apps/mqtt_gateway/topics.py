"""Where questions come from and answers go to. One level of the topic is the thing's account, as on links."""

from __future__ import annotations

from ...links.mqtt_frames import ROOT, status

__all__ = ["answer", "asks", "gateway_state", "gateway_status", "pieces", "thing_of"]


def asks(gateway: str, thing: str = "+") -> str:
    """Where a thing puts its questions; all things' by default."""
    return f"{ROOT}/ask/{gateway}/{thing}"


def answer(gateway: str, thing: str) -> str:
    """Where it finds the answers."""
    return f"{ROOT}/answer/{gateway}/{thing}"


def pieces(gateway: str, thing: str) -> str:
    """Where it finds an answer's text as it comes."""
    return f"{answer(gateway, thing)}/tokens"


def gateway_status(gateway: str) -> str:
    """`online` or `offline`, retained."""
    return status("gateways", gateway)


def gateway_state(gateway: str) -> str:
    """JSON about it, retained."""
    return f"{ROOT}/gateways/{gateway}/state"


def thing_of(topic: str) -> str:
    """Who asks on this topic."""
    return topic.rpartition("/")[2]
