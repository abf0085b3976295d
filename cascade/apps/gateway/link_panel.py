"""`/cascade/link`: what the emulated link is like, and the switches for it."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from aiohttp import web

from .bodies import read_json
from .failures import ApiError, bad_request
from .shaping import ShapedLink

__all__ = ["LINK_PATH", "LinkPanel"]

LINK_PATH = "/cascade/link"


class LinkPanel:
    """Without an emulated link there is nothing to switch, and both pages say so."""

    def __init__(self, shaped: ShapedLink | None) -> None:
        self._shaped = shaped

    @property
    def routes(self) -> list[web.RouteDef]:
        return [web.get(LINK_PATH, self._show), web.post(LINK_PATH, self._switch)]

    async def _show(self, _request: web.Request) -> web.Response:
        return web.json_response(self._link().facts)

    async def _switch(self, request: web.Request) -> web.Response:
        link, content = self._link(), await read_json(request)
        _switch(link, content)
        return web.json_response(link.facts)

    def _link(self) -> ShapedLink:
        if self._shaped is None:
            text = "the link is a real one; start the gateway with --profile NAME to have one to play with"
            raise ApiError(HTTPStatus.NOT_FOUND, "no_emulated_link", text)
        return self._shaped


def _switch(link: ShapedLink, content: Mapping[str, Any]) -> None:
    for name in content:
        if name not in ("profile", "is_cut"):
            text = f"there is no {str(name)[:64]!r}; there are profile and is_cut"
            raise bad_request(str(name)[:64], text, "unknown_parameter")
    profile, is_cut = content.get("profile"), content.get("is_cut")
    if profile is not None:
        if profile not in link.facts["profiles"]:  # never a file of this machine: anybody may ask
            raise bad_request("profile", f"profile must be one of {', '.join(link.facts['profiles'])}")
        link.choose(profile)
    if is_cut is not None:
        if not isinstance(is_cut, bool):
            raise bad_request("is_cut", "is_cut must be true or false", "invalid_type")
        (link.cut if is_cut else link.restore)()
