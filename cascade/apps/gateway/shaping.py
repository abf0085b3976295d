"""The emulated link around whatever a device dials, with a switch for its kind and one that cuts it."""

from __future__ import annotations

import asyncio
from typing import Any

from ...errors import LinkClosed
from ...links.base import Dialer, Link
from ...links.emulated import EmulatedLink
from ...links.profiles import Profile, load_profile, profile_names

__all__ = ["ShapedLink"]


class ShapedLink:
    """`dialer = shaped.around(dialer, is_reliable=True)`; what it dials has the conditions that are set here.

    While it is cut, nothing gets through and nobody is told, as with a radio that is gone: streams stand
    still, and dialling anew waits, too.
    """

    def __init__(self, profile: Profile, *, seed: int = 0) -> None:
        self._profile = profile
        self._seed = seed
        self._link: _CutLink | None = None
        """The newest: a device has one at a time."""
        self._is_open = asyncio.Event()
        self._is_open.set()

    def around(self, dialer: Dialer, *, is_reliable: bool) -> Dialer:
        """`is_reliable`: a stream, which stands still where datagrams are lost."""

        async def dial() -> Link:
            await self._is_open.wait()
            link = EmulatedLink(
                await dialer(),
                up=self._profile.up,
                down=self._profile.down,
                seed=self._seed,
                is_reliable=is_reliable,
            )
            self._link = _CutLink(link, self._is_open, is_reliable=is_reliable)
            return self._link

        return dial

    @property
    def is_cut(self) -> bool:
        return not self._is_open.is_set()

    @property
    def facts(self) -> dict[str, Any]:
        """What there is to choose from, and what is chosen."""
        return {"profile": self._profile.name, "profiles": list(profile_names()), "is_cut": self.is_cut}

    def choose(self, name: str) -> None:
        """Another kind of link, by a name that comes with the library, for what is sent from now on."""
        self._profile = load_profile(name)
        if self._link is not None:
            self._link.emulated.change(up=self._profile.up, down=self._profile.down)

    def cut(self) -> None:
        """Until `restore`."""
        self._is_open.clear()

    def restore(self) -> None:
        self._is_open.set()


class _CutLink:
    """Lets nothing through while it is cut: datagrams are lost, a stream stands still."""

    def __init__(self, emulated: EmulatedLink, is_open: asyncio.Event, *, is_reliable: bool) -> None:
        self.emulated = emulated
        self._is_open = is_open
        self._is_reliable = is_reliable
        self._closed = asyncio.Event()

    @property
    def peer(self) -> str:
        return self.emulated.peer

    async def send(self, data: bytes, *, must_arrive: bool = False) -> None:
        if await self._may_pass():
            await self.emulated.send(data, must_arrive=must_arrive)

    async def receive(self) -> bytes:
        while True:
            data = await self.emulated.receive()
            if await self._may_pass():
                return data

    async def close(self) -> None:
        self._closed.set()
        await self.emulated.close()

    async def _may_pass(self) -> bool:
        """Now, or when the link is restored; never, if it is a datagram or the link is given up meanwhile."""
        if self._is_open.is_set() or not self._is_reliable:
            return self._is_open.is_set()
        waits = [asyncio.create_task(event.wait()) for event in (self._is_open, self._closed)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        if self._closed.is_set():
            raise LinkClosed("the link was closed")
        return True
