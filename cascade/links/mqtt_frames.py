"""What travels in MQTT payloads: a few bytes in front of each message, and the topics they go to.

    DATA: 0x80 + number   1 byte     every other kind: kind     1 byte
          link            2 bytes                      link     2 bytes
          the message                                  number   1 byte
                                                       body     the rest

All big-endian. `docs/mqtt.md` says what each kind is for.
"""

from __future__ import annotations

import enum
import re
import struct
from dataclasses import dataclass

from ..errors import SettingsError, WireError

__all__ = [
    "FRAME_VERSION",
    "HEADER_BYTES",
    "LINK_BITS",
    "NUMBERS",
    "ROOT",
    "Frame",
    "Kind",
    "check_name",
    "device_in",
    "device_out",
    "info",
    "pool_open",
    "status",
]

ROOT = "cascade/v1"
FRAME_VERSION = 1

NUMBERS = 128
"""Messages are numbered modulo this."""
LINK_BITS = 16

_DATA = struct.Struct(">BH")
_OTHER = struct.Struct(">BHB")
HEADER_BYTES = _DATA.size
"""In front of a message."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@=-]{0,63}")


class Kind(enum.IntEnum):
    """What a frame is. The number field in brackets."""

    DIAL = 1
    """Device: open a link (version of these frames)."""
    ACCEPT = 2
    """Edge: the link is open; the body is the edge's name (version)."""
    REFUSE = 3
    """Edge: it is not; the body says why (version)."""
    DATA = 4
    """A message (its number). On the wire it is any first byte from 0x80 on."""
    ROOM = 5
    """All messages up to this one were read (its number)."""
    PROBE = 6
    """How far have you read? (the newest message's number)"""
    CLOSE = 7
    """The link is over, or was never known here."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One payload."""

    kind: Kind
    link: int
    number: int = 0
    body: bytes = b""

    def encode(self) -> bytes:
        if self.kind is Kind.DATA:
            return _DATA.pack(NUMBERS + self.number, self.link) + self.body
        return _OTHER.pack(self.kind, self.link, self.number) + self.body

    @classmethod
    def decode(cls, data: bytes) -> Frame:
        """Raises `WireError` for anything that is no frame."""
        try:
            if data[:1] >= b"\x80":
                number, link = _DATA.unpack_from(data)
                return cls(Kind.DATA, link, number - NUMBERS, data[_DATA.size :])
            kind, link, number = _OTHER.unpack_from(data)
            return cls(Kind(kind), link, number, data[_OTHER.size :])
        except struct.error:
            raise WireError(f"{len(data)} bytes are too few for a frame") from None
        except ValueError:
            raise WireError(f"there is no frame of kind {kind}") from None


def check_name(field: str, name: str) -> str:
    """Names are one level of a topic: nothing in them may mean something to a broker or its access list."""
    if not _NAME.fullmatch(name):
        raise SettingsError(
            field,
            f"must be 1 to 64 letters, digits or . _ : @ = -, beginning with a letter or digit: {name!r}",
        )
    return name


def pool_open(pool: str, device: str) -> str:
    """Where a device asks any edge of a pool."""
    return f"{ROOT}/pool/{pool}/open/{device}"


def device_in(edge: str, device: str) -> str:
    """Where an edge hears this device."""
    return f"{ROOT}/edges/{edge}/in/{device}"


def device_out(device: str) -> str:
    """Where a device hears edges."""
    return f"{ROOT}/devices/{device}/out"


def status(side: str, name: str) -> str:
    """`online` or `offline`, retained; `side` is `edges` or `devices`."""
    return f"{ROOT}/{side}/{name}/status"


def info(side: str, name: str) -> str:
    """JSON about it, retained."""
    return f"{ROOT}/{side}/{name}/info"
