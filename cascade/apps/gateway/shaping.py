"""The emulated link around whatever a device dials, with a switch for its kind and one that cuts it."""

from __future__ import annotations

import asyncio
from typing import Any

from ...links.base import Dialer, Link
from ...links.emulated import EmulatedLink
from ...links.profiles import Profile, load_profile, profile_names

__all__ = ["ShapedLink"]

STEP_S = 0.25
"""An outage of unknown length is cut from the future piece by piece, so it ends within one piece."""


class ShapedLink:
    """`dialer = shaped.around(dialer, is_reliable=True)`; what it dials has the conditions that are set here.

    While it is cut, nothing gets through and nobody is told, as with a radio that is gone: streams stand
    still, and dialling anew waits, too.
    """

    def __init__(self, profile: Profile, *, seed: int = 0) -> None:
        self._profile = profile
        self._seed = seed
        self._link: EmulatedLink | None = None
        """The newest: a device has one at a time."""
        self._is_open = asyncio.Event()
        self._is_open.set()
        self._cutter: asyncio.Task[None] | None = None

    def around(self, dialer: Dialer, *, is_reliable: bool) -> Dialer:
        """`is_reliable`: a stream, which stands still where datagrams are lost."""

        async def dial() -> Link:
            await self._is_open.wait()
            inner = await dialer()
            self._link = EmulatedLink(
                inner,
                up=self._profile.up,
                down=self._profile.down,
                seed=self._seed,
                is_reliable=is_reliable,
            )
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
            self._link.change(up=self._profile.up, down=self._profile.down)

    def cut(self) -> None:
        """Until `restore`."""
        if not self.is_cut:
            self._is_open.clear()
            self._cutter = asyncio.create_task(self._keep_cut(), name="gateway-outage")

    def restore(self) -> None:
        self._is_open.set()
        if self._cutter is not None:
            self._cutter.cancel()
            self._cutter = None

    async def _keep_cut(self) -> None:
        while True:
            if self._link is not None:
                self._link.cut(STEP_S)
            await asyncio.sleep(0.8 * STEP_S)
