"""Everybody at one table: devices and an endpoint over the same link, transformers beside it."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...device import Device, Policy
from ...links import precise
from ...links.base import Dialer
from ...links.conditions import Conditions
from ...links.proxy import LinkProxy
from ...links.urls import dialer_for
from ..cores import pinned, real_edge, two_cores
from ..progress import say
from .assisted import load_assisted
from .contest import Peer, contest
from .endpoint import Endpoint
from .ours import Ours

if TYPE_CHECKING:
    from ...models.base import LanguageModel

__all__ = ["Meeting", "meet"]


DTYPE = "bfloat16"
"""Of the edge, and of transformers: all of them compute with the same weights."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Meeting:
    """Who comes."""

    target: str
    draft: str
    up: Conditions
    down: Conditions
    questions: tuple[str, ...]
    num_tokens: int
    endpoint: str = ""
    """Address of an endpoint; empty: none comes."""
    endpoint_model: str = ""
    key: str = ""
    has_assisted: bool = True


def meet(meeting: Meeting) -> list[dict[str, Any]]:
    """A row for each, plain streaming first. Models are loaded before anybody is asked.

    The edge has a core of its own, as it would have a machine of its own; all others compute on another one.
    """
    from ...models.loading import check_same_vocabulary, open_model

    edge_core, near_core = two_cores()
    draft = open_model(meeting.draft)
    check_same_vocabulary(open_model(meeting.target), draft)
    say(f"starting an edge with {meeting.target} in {DTYPE}")
    with real_edge(meeting.target, DTYPE, edge_core) as url, pinned(near_core):
        return precise.run(_meet(meeting, url, draft))


async def _meet(meeting: Meeting, edge_url: str, draft: LanguageModel) -> list[dict[str, Any]]:
    peers: list[Peer] = _assisted(meeting, draft) if meeting.has_assisted else []
    async with AsyncExitStack() as stack:
        host, port = edge_url.split("/")[2].rsplit(":", 1)
        proxy = await stack.enter_async_context(
            LinkProxy((host, int(port)), up=meeting.up, down=meeting.down)
        )
        near_host, near_port = proxy.address
        url = edge_url.replace(f"{host}:{port}", f"{near_host}:{near_port}")
        ours = [
            Ours(name, await stack.enter_async_context(Device([_dialer(url, name)], draft=draft)), policy)
            for name, policy in (("cloud", Policy.cloud()), ("cascade", Policy.adaptive()))
        ]
        if meeting.endpoint:
            peers.append(
                await stack.enter_async_context(
                    Endpoint(
                        meeting.endpoint,
                        model=meeting.endpoint_model,
                        key=meeting.key,
                        up=meeting.up,
                        down=meeting.down,
                    )
                )
            )
        return await contest([*ours, *peers], meeting.questions, num_tokens=meeting.num_tokens)


def _assisted(meeting: Meeting, draft: LanguageModel) -> list[Peer]:
    return [load_assisted(meeting.target, one) for one in (None, draft)]


def _dialer(url: str, name: str) -> Dialer:
    return dialer_for(url, identity=name)
