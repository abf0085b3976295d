"""Who sends an HTTP request, and what they may see."""

from __future__ import annotations

from http import HTTPStatus

from aiohttp import web

from ...links.websocket import bearer_token, certificate_name
from .answers import ApiError
from .tokens import TokenFile

__all__ = ["Gate"]


class Gate:
    """Without a token file everybody may come in who reached the port (or whose certificate is ours)."""

    def __init__(self, tokens: TokenFile | None) -> None:
        self._tokens = tokens

    def identity(self, request: web.Request) -> str:
        """As on a link: what the token stands for, else what the certificate says; else the address."""
        if self._tokens is not None:
            identity = self._tokens.identify(bearer_token(request))
            if identity is None:
                text = "a bearer token that this edge knows is needed"
                raise ApiError(HTTPStatus.UNAUTHORIZED, "unauthorized", text)
            return identity
        return certificate_name(request) or f"http:{request.remote}"

    def check_operator(self, request: web.Request) -> None:
        """Figures of all identities are for those whom the token file calls operators."""
        if self._tokens is not None and not self._tokens.is_operator(self.identity(request)):
            text = "this token is not an operator's; set operator = true in the token file"
            raise ApiError(HTTPStatus.FORBIDDEN, "forbidden", text)
