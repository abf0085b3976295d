"""What every command that runs a device may be told: options for the command line, and the device they make.

Imports are late, as in `cli.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import SettingsError
from ..settings import check_int

if TYPE_CHECKING:
    from ..device import Device
    from ..links.base import Dialer
    from ..models.base import LanguageModel
    from .gateway.shaping import ShapedLink

__all__ = [
    "BUNDLED_DRAFT",
    "NEAR_EDGE",
    "CaOption",
    "DeviceOptions",
    "DraftOption",
    "IdentityOption",
    "ThreadsOption",
    "TokenOption",
    "TokenizerOption",
    "edge_option",
    "make_dialers",
    "open_device",
]

BUNDLED_DRAFT = "smollm2-135m-draft"
"""Comes with the package, and so does its target's tokenizer."""
NEAR_EDGE = "ws://127.0.0.1:8080"
"""Where `cascade serve` listens, unless told otherwise."""
NO_DRAFT = "none"
SUFFIX = "suffix"
DATAGRAMS = ("mqtt:", "mqtts:")
PLAIN = ("mqtt:", "ws:", "http:", "memory:")


def edge_option(more: str = "") -> Any:
    """--edge, with more to say about it."""
    return typer.Option(
        "--edge",
        metavar="URL",
        envvar="CASCADE_EDGE",
        help="An edge: ws://host:port, mqtt://user:password@broker/edge; again for the next best." + more,
    )


DraftOption = Annotated[
    str,
    typer.Option(
        "--draft",
        metavar="REF",
        help="A bundled name or a folder; 'suffix', without torch; 'none': plain streaming.",
    ),
]
TokenizerOption = Annotated[
    str,
    typer.Option(
        "--tokenizer",
        metavar="REF",
        help="With 'suffix' and 'none', a folder with the edge's tokenizer; else the bundled model's.",
    ),
]
IdentityOption = Annotated[
    str, typer.Option("--identity", metavar="NAME", help="Who this device is, at the edge.")
]
TokenOption = Annotated[
    str,
    typer.Option(
        "--token",
        metavar="TOKEN",
        envvar="CASCADE_TOKEN",
        help="What proves it to the edge; best in the environment.",
    ),
]
CaOption = Annotated[
    Path | None,
    typer.Option(
        "--ca", metavar="FILE", help="With wss:// and mqtts://, the CA that the certificates there are of."
    ),
]
ThreadsOption = Annotated[int, typer.Option("--threads", min=1, help="Threads for the draft model.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceOptions:
    """A device as the command line has it."""

    edges: tuple[str, ...]
    """Addresses, the best first."""
    draft: str = BUNDLED_DRAFT
    """A bundled name or a folder; `suffix`; or `none`: plain streaming."""
    tokenizer: str = ""
    """A folder or a bundled name, for a device whose draft brings none."""
    identity: str = "device"
    """Who the device is, at the edge."""
    token: str = ""
    """What proves it."""
    ca: Path | None = None
    """Of the edges, or their broker, where their certificates are of no public CA."""
    num_threads: int = 1
    """For the draft model."""

    def __post_init__(self) -> None:
        check_int("threads", self.num_threads, low=1)
        if not self.edges:
            raise SettingsError("edge", f"name at least one, such as {NEAR_EDGE}")


@contextlib.asynccontextmanager
async def open_device(options: DeviceOptions, shaped: ShapedLink | None = None) -> AsyncIterator[Device]:
    """The device, running. `shaped`: an emulated link around the real one."""
    from ..device import Device

    dialers = make_dialers(options, shaped)  # addresses that cannot be are said before a model is loaded
    draft = await _load_draft(options)
    async with Device(
        dialers,
        draft=draft,
        tokenizer=options.tokenizer or (BUNDLED_DRAFT if draft in (None, SUFFIX) else None),
        identity=options.identity,
        token=options.token,
    ) as device:
        yield device


def make_dialers(options: DeviceOptions, shaped: ShapedLink | None = None) -> list[Dialer]:
    """One for each edge."""
    from ..links.urls import dialer_for
    from .certificates import client_context

    context = None if options.ca is None else client_context(options.ca)
    dialers = []
    for url in options.edges:
        is_encrypted, is_reliable = (not url.lower().startswith(kind) for kind in (PLAIN, DATAGRAMS))
        dialer = dialer_for(
            url,
            identity=options.identity,
            token=options.token,
            ssl_context=context if is_encrypted else None,
        )
        dialers.append(dialer if shaped is None else shaped.around(dialer, is_reliable=is_reliable))
    return dialers


async def _load_draft(options: DeviceOptions) -> LanguageModel | str | None:
    """As a `Device` takes it. A model is loaded in a thread, which takes seconds."""
    if options.draft == NO_DRAFT:
        return None
    if options.draft == SUFFIX:
        return SUFFIX
    from ..device.equipment import open_draft

    return await asyncio.to_thread(open_draft, options.draft, num_threads=options.num_threads)
