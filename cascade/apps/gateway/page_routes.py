"""The chat page: a handful of files, which ask nobody but this gateway for anything."""

from __future__ import annotations

from pathlib import Path

from aiohttp import web

__all__ = ["page_routes"]

FOLDER = Path(__file__).with_name("page")
TYPES = {
    "index.html": "text/html",
    "style.css": "text/css",
    "icon.svg": "image/svg+xml",
    "main.js": "text/javascript",
    "api.js": "text/javascript",
    "answer.js": "text/javascript",
    "chart.js": "text/javascript",
    "conversation.js": "text/javascript",
    "panel.js": "text/javascript",
    "store.js": "text/javascript",
}
POLICY = "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
"""Nothing from anywhere else, nothing inline, nobody's frame."""
HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def page_routes() -> list[web.RouteDef]:
    """`/` and what the page loads."""

    async def serve(request: web.Request) -> web.FileResponse:
        name = request.match_info.get("name", "index.html")
        if name not in TYPES:
            raise web.HTTPNotFound
        return web.FileResponse(
            FOLDER / name, headers=HEADERS | {"Content-Type": f"{TYPES[name]}; charset=utf-8"}
        )

    return [web.get("/", serve), web.get("/page/{name}", serve)]
