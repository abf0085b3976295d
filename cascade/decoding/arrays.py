"""The few array operations that the maths needs, in NumPy and in torch.

Whatever must give the same numbers on a device (NumPy) and on an edge (torch) is written once, against
`Arrays`. Integers of 32 bits live in `uint32` in NumPy, where they wrap by themselves, and in `int64` under a
mask in torch, which has no full uint32 arithmetic: the low 32 bits of a wrapped product are right in both.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Hashable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

import numpy as np

__all__ = ["MASK", "NUMPY", "Arrays", "MixConstants", "is_tensor", "load_torch", "torch_arrays"]

MASK = 0xFFFFFFFF


class MixConstants(NamedTuple):
    """The constants of the 32-bit mixer, in the type that its lanes like best."""

    shift_16: Any
    shift_15: Any
    odd_a: Any
    odd_b: Any
    mask: Any
    """None where lanes wrap by themselves."""


class Arrays(Hashable, Protocol):
    """A namespace of array operations. Rows are the first axis, tokens the second."""

    mix: MixConstants

    def floats(self, x: Any) -> Any:
        """`x` in float64."""
        ...

    def tokens(self, vocab_size: int) -> Any:
        """0, 1, .. vocab_size - 1, fresh, in the type of a 32-bit lane."""
        ...

    def column(self, values: Sequence[float]) -> Any:
        """Float64 [R, 1]."""
        ...

    def lane_column(self, values: Sequence[int]) -> Any:
        """32-bit lanes [R, 1]."""
        ...

    def exp(self, x: Any) -> Any: ...

    def log(self, x: Any) -> Any: ...

    def rint(self, x: Any) -> Any:
        """Round to whole numbers, halves to even."""
        ...

    def where(self, condition: Any, x: Any, y: Any) -> Any: ...

    def ranking(self, x: Any) -> Any:
        """Token ids of every row, largest first, ties by lowest id."""
        ...

    def gather(self, x: Any, order: Any) -> Any:
        """out[r, i] = x[r, order[r, i]]."""
        ...

    def running_sum(self, x: Any) -> Any: ...

    def largest(self, x: Any) -> Any:
        """The largest of every row, [R, 1]."""
        ...

    def smallest(self, x: Any) -> Any:
        """The smallest of every row, [R]."""
        ...


class NumpyArrays:
    """`Arrays` in NumPy."""

    # 0-d arrays: NumPy converts a Python integer anew in each call, which costs more than a small array's
    # work.
    mix = MixConstants._make(
        [np.array(c, dtype=np.uint32) for c in (16, 15, 0x7FEB352D, 0x846CA68B)] + [None]
    )
    exp = staticmethod(np.exp)
    log = staticmethod(np.log)
    rint = staticmethod(np.rint)
    where = staticmethod(np.where)

    def floats(self, x: Any) -> Any:
        return x.astype(np.float64)

    def tokens(self, vocab_size: int) -> Any:
        return np.arange(vocab_size, dtype=np.uint32)

    def column(self, values: Sequence[float]) -> Any:
        return np.array(values, dtype=np.float64)[:, None]

    def lane_column(self, values: Sequence[int]) -> Any:
        return np.array(values, dtype=np.uint32)[:, None]

    def ranking(self, x: Any) -> Any:
        return np.argsort(-x, axis=1, kind="stable")

    def gather(self, x: Any, order: Any) -> Any:
        return x[np.arange(x.shape[0])[:, None], order]  # half the time of take_along_axis

    def running_sum(self, x: Any) -> Any:
        return np.cumsum(x, axis=1)

    def largest(self, x: Any) -> Any:
        return x.max(axis=1, keepdims=True)

    def smallest(self, x: Any) -> Any:
        return x.min(axis=1)


class TorchArrays:
    """`Arrays` in torch, on one torch device."""

    mix = MixConstants(16, 15, 0x7FEB352D, 0x846CA68B, mask=MASK)

    def __init__(self, device: Any) -> None:
        torch = load_torch()
        self._torch = torch
        self._device = device
        self.exp = torch.exp
        self.log = torch.log
        self.rint = torch.round
        self.where = torch.where

    def floats(self, x: Any) -> Any:
        return x.to(self._torch.float64)

    def tokens(self, vocab_size: int) -> Any:
        return self._torch.arange(vocab_size, dtype=self._torch.int64, device=self._device)

    def column(self, values: Sequence[float]) -> Any:
        return self._torch.tensor(list(values), dtype=self._torch.float64, device=self._device)[:, None]

    def lane_column(self, values: Sequence[int]) -> Any:
        return self._torch.tensor(list(values), dtype=self._torch.int64, device=self._device)[:, None]

    def ranking(self, x: Any) -> Any:
        return self._torch.argsort(-x, dim=1, stable=True)

    def gather(self, x: Any, order: Any) -> Any:
        return self._torch.gather(x, 1, order)

    def running_sum(self, x: Any) -> Any:
        return self._torch.cumsum(x, dim=1)

    def largest(self, x: Any) -> Any:
        return x.amax(dim=1, keepdim=True)

    def smallest(self, x: Any) -> Any:
        return x.amin(dim=1)


NUMPY = NumpyArrays()


@lru_cache(maxsize=16)
def torch_arrays(device: Any) -> Arrays:
    """The namespace of a torch device."""
    return TorchArrays(device)


def load_torch() -> Any:
    """The torch module. Only called once a tensor has come in, so it is installed and loaded."""
    return importlib.import_module("torch")


def is_tensor(x: Any) -> bool:
    """Whether `x` is a torch tensor; never imports torch (who made a tensor has imported it)."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(x, torch.Tensor)
