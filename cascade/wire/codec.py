"""Messages to bytes and back."""

from __future__ import annotations

import struct
from typing import Any, Final

import msgpack

from ..errors import SettingsError, WireError
from ..settings import MAX_MESSAGE_BYTES
from .control import CONTROL_LAYOUTS
from .layout import Layout, Values
from .messages import Message
from .packing import TokenPacker
from .shape import MAX_FIELDS, check_shape, first_field
from .stream import STREAM_LAYOUTS

__all__ = ["LAYOUTS", "Codec"]

LAYOUTS: Final = {layout.number: layout for layout in (*CONTROL_LAYOUTS, *STREAM_LAYOUTS)}
_BY_RECORD: Final = {layout.record: layout for layout in LAYOUTS.values()}
_SHORT: Final = 512  # bytes; at worst, msgpack builds 64 times as many from them
_MISUSE: Final = (TypeError, ValueError, OverflowError, AttributeError, struct.error)


class Codec:
    """Writes and reads the messages of one vocabulary.

    HELLO and WELCOME hold no tokens, so any codec reads them. `decode` takes bytes from strangers: whatever
    they are, it returns a message or raises `WireError`. `encode` refuses the same values.
    Not for use by two threads at once.
    """

    __slots__ = ("_pack", "_tokens", "max_message_bytes")

    def __init__(self, vocab_size: int, max_message_bytes: int = MAX_MESSAGE_BYTES) -> None:
        if type(max_message_bytes) is not int or max_message_bytes < 1:
            raise SettingsError("max_message_bytes", f"must be a positive integer, not {max_message_bytes!r}")
        self._tokens = TokenPacker(vocab_size)
        self._pack: Any = msgpack.Packer().pack
        self.max_message_bytes = max_message_bytes

    @property
    def vocab_size(self) -> int:
        """Token ids are below this."""
        return self._tokens.vocab_size

    def encode(self, message: Message) -> bytes:
        """The bytes of `message`; `WireError` when a field holds what the other side would refuse."""
        layout = _BY_RECORD.get(type(message))
        if layout is None:
            raise WireError(f"not a message: {type(message).__name__}")
        try:
            values = layout.lower(message, self._tokens)
            trimmed = layout.trim(values)
            layout.check(trimmed)
            layout.relate(values, self._tokens.width)
        except _MISUSE as error:
            raise WireError(f"{layout.name}: a field has the wrong type ({type(error).__name__})") from error
        data: bytes = self._pack(trimmed)
        if len(data) > self.max_message_bytes:
            raise WireError(f"{layout.name}: {len(data)} bytes, at most {self.max_message_bytes} are allowed")
        return data

    def decode(self, data: bytes) -> Message:
        """The message in `data`, or `WireError`."""
        if type(data) is not bytes:
            raise WireError(f"not a message: {type(data).__name__} instead of bytes")
        if len(data) > self.max_message_bytes:
            raise WireError(f"{len(data)} bytes, at most {self.max_message_bytes} are allowed")
        start = first_field(data)
        layout = LAYOUTS.get(data[start]) if start < len(data) else None
        if layout is None:
            raise WireError("not a message: unknown type")
        values = self._unpack(data, start, layout)
        layout.check(values)
        values = layout.fill(values)
        layout.relate(values, self._tokens.width)
        return layout.lift(values, self._tokens)

    def _unpack(self, data: bytes, start: int, layout: Layout) -> Values:
        """The values in `data`: plain ones only, in memory proportional to its length.

        The shape of a short message needs a look only when msgpack stumbles over it or when it has
        fields that no later check will see; that makes decoding a third faster.
        """
        if len(data) > _SHORT:
            check_shape(data, start, layout.name)
        try:
            values: Values = msgpack.unpackb(
                data, use_list=False, max_array_len=MAX_FIELDS, max_map_len=0, max_ext_len=0
            )
        except (ValueError, msgpack.UnpackException):
            check_shape(data, start, layout.name)
            raise WireError(f"{layout.name}: a text is not UTF-8") from None
        if len(values) > layout.num_values and len(data) <= _SHORT:
            check_shape(data, start, layout.name)
        return values
