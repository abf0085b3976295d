"""What a model remembers of each text: keys and values in buffers that grow geometrically.

A sequence is a chain of *shared* pieces, which nobody writes to any more, and a *tail* of its own. Forking
freezes the tail and lets both sides go on behind it, so a prefix is held once however many texts begin with
it; forgetting is setting a length. Attention reads the pieces where they lie.
"""

from __future__ import annotations

import threading
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import ModelError

if TYPE_CHECKING:
    import torch

__all__ = ["KVSequence", "KVStore", "LayerShape", "Piece"]

Piece = tuple["torch.Tensor", "torch.Tensor"]
"""Keys and values of one stretch of a text: [heads, tokens, head_dim] each.

They lie side by side, [heads, tokens, key_dim + value_dim], so that writing or copying both is one call.
"""

BLOCK = 64
"""Capacities are multiples of this, so attention in fixed key blocks never reads past a buffer."""

MAX_PIECES = 4
"""A longer chain is copied into one piece once: each piece costs every later pass another kernel call."""


@dataclass(frozen=True, slots=True)
class LayerShape:
    """The shape of one layer's keys and values."""

    num_heads: int
    key_dim: int
    value_dim: int

    @property
    def dim(self) -> int:
        """Of a key and its value side by side."""
        return self.key_dim + self.value_dim

    @property
    def numbers_per_token(self) -> int:
        return self.num_heads * self.dim


class Segment:
    """Keys and values of all layers for up to `capacity` tokens, in one allocation.

    One allocation, because buffers this large come straight from the system and go back to it, where many
    small ones would stay behind in the allocator's heap.
    """

    __slots__ = ("__weakref__", "capacity", "holders", "layers", "num_bytes")

    def __init__(self, store: KVStore, capacity: int) -> None:
        import torch

        self.capacity = capacity
        total = capacity * store.numbers_per_token
        # Zeros: blockwise attention multiplies slots that nothing was written to yet by zero weights.
        storage = torch.zeros(total, dtype=store.dtype, device=store.device)
        self.num_bytes = total * storage.element_size()
        self.holders: dict[int, None] = {}
        """Sequences that read this segment, in order; the first is charged for it."""
        self.layers: list[torch.Tensor] = []
        """Keys and values side by side, [heads, capacity, dim] a layer."""
        at = 0
        for shape in store.shapes:
            end = at + capacity * shape.numbers_per_token
            self.layers.append(storage[at:end].view(shape.num_heads, capacity, shape.dim))
            at = end


class KVStore:
    """Makes sequences for one model and knows how many bytes they hold altogether."""

    def __init__(
        self, shapes: tuple[LayerShape, ...], dtype: torch.dtype, device: torch.device, context_length: int
    ) -> None:
        self.shapes = shapes
        self.dtype = dtype
        self.device = device
        self.context_length = context_length
        self.numbers_per_token = sum(shape.numbers_per_token for shape in shapes)
        self._lock = threading.Lock()
        self._allocated_bytes = 0

    @property
    def allocated_bytes(self) -> int:
        """Bytes of all buffers alive; each shared one once."""
        return self._allocated_bytes

    def new_sequence(self) -> KVSequence:
        return KVSequence(self)

    def new_segment(self, capacity: int) -> Segment:
        segment = Segment(self, capacity)
        with self._lock:
            self._allocated_bytes += segment.num_bytes
        weakref.finalize(segment, self._give_back, segment.num_bytes)
        return segment

    def segment_bytes(self, capacity: int) -> int:
        return capacity * self.numbers_per_token * self.dtype.itemsize

    def _give_back(self, num_bytes: int) -> None:
        with self._lock:
            self._allocated_bytes -= num_bytes


class KVSequence:
    """The cache of one text. A pass reserves room, writes layer by layer, and advances at its end;
    a pass that fails in between has changed nothing."""

    __slots__ = ("_released", "_shared", "_shared_length", "_tail", "_tail_length", "store")

    def __init__(self, store: KVStore) -> None:
        self.store = store
        self._shared: list[tuple[Segment, int]] = []
        self._shared_length = 0
        self._tail: Segment | None = None
        self._tail_length = 0
        self._released = False

    def __repr__(self) -> str:
        return f"<KVSequence of {self.length} tokens, {self.memory_bytes} bytes>"

    @property
    def length(self) -> int:
        """Tokens held."""
        return self._shared_length + self._tail_length

    @property
    def memory_bytes(self) -> int:
        """Bytes charged to this sequence: its tail, and shared pieces whose first living holder it is."""
        segments = [segment for segment, _ in self._shared]
        if self._tail is not None:
            segments.append(self._tail)
        return sum(s.num_bytes for s in segments if next(iter(s.holders), None) == id(self))

    def growth_bytes(self, num_tokens: int) -> int:
        """What `reserve(num_tokens)` will add to `memory_bytes`."""
        capacity = self._capacity_for(num_tokens)
        old_bytes = 0 if self._tail is None else self._tail.num_bytes
        return 0 if capacity is None else self.store.segment_bytes(capacity) - old_bytes

    @property
    def fork_bytes(self) -> int:
        """Nothing, but for a chain so long that it is copied into one piece; an empty tail is given back."""
        tail_bytes = 0 if self._tail is None else self._tail.num_bytes
        if not self._is_to_be_flattened():
            return 0 if self._tail_length else -tail_bytes
        given_back = [segment for segment, _ in self._shared if len(segment.holders) == 1]
        copy_bytes = self.store.segment_bytes(_blocks(self.length))
        return copy_bytes - tail_bytes - sum(segment.num_bytes for segment in given_back)

    def truncate(self, length: int) -> None:
        """Forget everything from `length` on. O(1): lengths are set, nothing is copied or cleared."""
        self._check_alive()
        if not 0 <= length <= self.length:
            raise ModelError(f"cannot truncate a sequence of {self.length} tokens to {length}")
        if length >= self._shared_length:
            self._tail_length = length - self._shared_length
            return
        self._tail_length = 0
        while self._shared_length > length:
            segment, used = self._shared.pop()
            self._shared_length -= used
            if self._shared_length < length:
                kept = length - self._shared_length
                self._shared.append((segment, kept))
                self._shared_length = length
            else:
                segment.holders.pop(id(self), None)

    def fork(self) -> KVSequence:
        """A second sequence that begins as this one. Nothing is copied (but see MAX_PIECES)."""
        self._check_alive()
        self._freeze_tail()
        other = KVSequence(self.store)
        other._shared = list(self._shared)
        other._shared_length = self._shared_length
        for segment, _ in other._shared:
            segment.holders[id(other)] = None
        return other

    def release(self) -> None:
        """Give the cache back. Safe to call twice; anything else afterwards raises."""
        for segment, _ in self._shared:
            segment.holders.pop(id(self), None)
        self._shared = []
        self._tail = None
        self._shared_length = self._tail_length = 0
        self._released = True

    # What a pass does, in this order.

    def reserve(self, num_tokens: int) -> None:
        """Make room for `num_tokens` more behind the present end."""
        self._check_alive()
        capacity = self._capacity_for(num_tokens)
        if capacity is not None:
            self._move_tail(capacity)

    def write(self, layer: int, position: int, both: torch.Tensor) -> None:
        """Put one layer's new keys and values, side by side, at a position within the reserved room."""
        assert self._tail is not None
        start = position - self._shared_length
        self._tail.layers[layer][:, start : start + both.shape[1]] = both

    def stretches(self, layer: int, num_tokens: int) -> list[torch.Tensor]:
        """The layer's keys and values, side by side, of the first `num_tokens` in order, fresh ones included.

        Everything that is shared is among them: `num_tokens` is at least the length.
        """
        parts = [segment.layers[layer][:, :used] for segment, used in self._shared]
        tail_length = num_tokens - self._shared_length
        if self._tail is not None and tail_length:
            parts.append(self._tail.layers[layer][:, :tail_length])
        return parts

    def pieces(self, layer: int, num_tokens: int) -> list[Piece]:
        """The same as keys and values."""
        return [self._split(layer, part) for part in self.stretches(layer, num_tokens)]

    def whole(self, layer: int, num_tokens: int) -> Piece:
        """The layer's first `num_tokens` slots as one piece, slots not written yet included.

        No copy for a text that is not shared; `num_tokens` must lie within the reserved room.
        """
        if not self._shared:
            assert self._tail is not None
            return self._split(layer, self._tail.layers[layer][:, :num_tokens])
        import torch

        parts = [segment.layers[layer][:, :used] for segment, used in self._shared]
        if self._tail is not None:
            parts.append(self._tail.layers[layer])
        both = torch.cat(parts, dim=1)[:, :num_tokens]
        return self._split(layer, _padded(both, num_tokens))

    def advance(self, num_tokens: int) -> None:
        """The pass went well: the tokens it wrote are now held."""
        self._tail_length += num_tokens

    def _split(self, layer: int, both: torch.Tensor) -> Piece:
        key_dim = self.store.shapes[layer].key_dim
        return both[..., :key_dim], both[..., key_dim:]

    def _check_alive(self) -> None:
        if self._released:
            raise ModelError("this sequence was released; make a new one")

    def _capacity_for(self, num_tokens: int) -> int | None:
        """Of the tail that `num_tokens` more need; None if there is room for them."""
        needed = self._tail_length + num_tokens
        if self._tail is not None and self._tail.capacity >= needed:
            return None
        # Doubling past the model's context would buy room that can never be used.
        capacity = min(2 * self._tail_length, self.store.context_length - self._shared_length)
        return _blocks(max(needed, capacity))

    def _move_tail(self, capacity: int) -> None:
        new = self.store.new_segment(capacity)
        new.holders[id(self)] = None
        if self._tail is not None and self._tail_length:
            _copy(self._tail, new, self._tail_length, 0)
        self._tail = new

    def _freeze_tail(self) -> None:
        if self._tail is None or not self._tail_length:
            self._tail = None
            return
        if self._is_to_be_flattened():
            self._flatten()
        self._shared.append((self._tail, self._tail_length))
        self._shared_length += self._tail_length
        self._tail = None
        self._tail_length = 0

    def _is_to_be_flattened(self) -> bool:
        return self._tail is not None and self._tail_length > 0 and len(self._shared) >= MAX_PIECES - 1

    def _flatten(self) -> None:
        length = self.length
        new = self.store.new_segment(_blocks(length))
        new.holders[id(self)] = None
        at = 0
        assert self._tail is not None
        for segment, used in [*self._shared, (self._tail, self._tail_length)]:
            _copy(segment, new, used, at)
            segment.holders.pop(id(self), None)
            at += used
        self._shared = []
        self._shared_length = 0
        self._tail = new
        self._tail_length = length


def _blocks(num_tokens: int) -> int:
    """The capacity that so many tokens need."""
    return -(-num_tokens // BLOCK) * BLOCK


def _copy(source: Segment, target: Segment, num_tokens: int, at: int) -> None:
    for from_layer, to_layer in zip(source.layers, target.layers, strict=True):
        to_layer[:, at : at + num_tokens] = from_layer[:, :num_tokens]


def _padded(both: torch.Tensor, num_tokens: int) -> torch.Tensor:
    missing = num_tokens - both.shape[1]
    if not missing:
        return both
    import torch

    pad: Any = torch.nn.functional.pad
    result: torch.Tensor = pad(both, (0, 0, 0, missing))
    return result
