"""Linear layers in each weight format, behind one call: rows in, rows out."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol

from ..errors import ModelError

if TYPE_CHECKING:
    import torch

__all__ = [
    "ByWidth",
    "Int4Linear",
    "Int8Head",
    "Int8Linear",
    "Linear",
    "OrderedLinear",
    "PlainLinear",
    "in_format",
    "in_int4",
    "in_int8",
]

GROUP = 32
"""Weights that share a scale in int4: smaller groups keep more of the model, larger ones save little."""

NARROW_ROWS = {"int8": 4, "int4": 8}
"""Up to so many rows the packed kernel is faster than bfloat16, unless measured (see `tuning.py`)."""

ORDER_ROWS = 32
"""The width that the order of bfloat16 weights is chosen for; it serves all widths."""

FINER = 254
"""Steps of the fine half of an activation that make one of the coarse half."""


class Linear(Protocol):
    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """[rows, inputs] -> [rows, outputs]"""
        ...


class PlainLinear:
    """Weights as they are, [outputs, inputs]."""

    __slots__ = ("bias", "weight")

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None = None) -> None:
        self.weight = weight
        self.bias = bias

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        import torch

        return torch.nn.functional.linear(x, self.weight, self.bias)


class OrderedLinear:
    """bfloat16 weights in the order that oneDNN's kernel wants; otherwise every pass would put them in it."""

    __slots__ = ("bias", "weight")

    def __init__(self, plain: PlainLinear) -> None:
        import torch

        self.weight = torch.ops.mkldnn._reorder_linear_weight(plain.weight.contiguous(), ORDER_ROWS)
        self.bias = plain.bias

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        import torch

        # One row alone would go another way, which takes half as long again as two rows take.
        rows = torch.cat([x, x]) if x.shape[0] == 1 else x.contiguous()
        out: torch.Tensor = torch.ops.mkldnn._linear_pointwise.default(
            rows, self.weight, self.bias, "none", [], ""
        )
        return out[: x.shape[0]]


class ByWidth:
    """Packed weights for few rows, bfloat16 for many, both of the same quantised numbers.

    The packed kernels read less memory, which is all that counts at a few rows, and compute slower, which
    counts at many. The price is memory: bfloat16's on top of the packed weights.
    """

    __slots__ = ("narrow", "narrow_rows", "wide")

    def __init__(self, narrow: Linear, wide: Linear, narrow_rows: int) -> None:
        self.narrow = narrow
        self.wide = wide
        self.narrow_rows = narrow_rows

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return self.narrow(x) if x.shape[0] <= self.narrow_rows else self.wide(x)


class Int8Linear:
    """Weights in int8 with a scale per output, by torch's weight-only kernel."""

    __slots__ = ("bias", "scale", "weight")

    def __init__(self, weight: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor | None = None) -> None:
        """As `in_int8` makes them."""
        import torch

        self.weight = weight
        self.scale = scale.to(torch.bfloat16)
        self.bias = bias

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        import torch

        out: torch.Tensor = torch.ops.aten._weight_int8pack_mm.default(
            x.contiguous(), self.weight, self.scale
        )
        return out if self.bias is None else out + self.bias


class Int8Head:
    """A model's last layer: many outputs, in float32, as logits tie in bfloat16.

    Each activation becomes two int8 numbers (a coarse and a fine one, together 16 bits), so that the
    processor's integer dot products do the work; sums are exact integers, hence independent of the width.
    """

    __slots__ = ("_integers", "bias")

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None = None) -> None:
        self._integers = _integer_product(*in_int8(weight))
        self.bias = bias

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        import torch

        rows, inputs = x.shape
        step = x.abs().amax(1, keepdim=True).float().clamp_min(1e-20) / 127
        halves = torch.empty(2, rows, inputs)
        wide = x / step
        torch.round(wide, out=halves[0])
        torch.sub(wide, halves[0], out=halves[1])
        halves[1].mul_(FINER).round_()
        sums = self._integers(halves.view(2 * rows, inputs).to(torch.int8))
        out = torch.add(sums[:rows], sums[rows:], alpha=1 / FINER).mul_(step)
        return out if self.bias is None else out + self.bias


class Int4Linear:
    """Weights in int4, GROUP of them with one scale and offset."""

    __slots__ = ("bias", "packed", "scales")

    def __init__(
        self,
        levels: torch.Tensor,
        scale: torch.Tensor,
        middle: torch.Tensor,
        bias: torch.Tensor | None = None,
    ) -> None:
        """As `in_int4` makes them."""
        import torch

        self.packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(levels.flatten(1), 1)
        pairs = torch.cat([scale, middle], dim=2).transpose(0, 1)
        self.scales = pairs.contiguous().to(torch.bfloat16)  # [groups, outputs, (scale, offset)]
        self.bias = bias

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        import torch

        out: torch.Tensor = torch.ops.aten._weight_int4pack_mm_for_cpu.default(
            x.contiguous(), self.packed, GROUP, self.scales
        )
        return out if self.bias is None else out + self.bias


IntegerProduct = Callable[["torch.Tensor"], "torch.Tensor"]
"""int8 [rows, inputs] -> float32 [rows, outputs]"""


def _integer_product(weight: torch.Tensor, scale: torch.Tensor) -> IntegerProduct:
    """int8 activations times int8 weights [outputs, inputs], and the outputs' scales."""
    import torch

    if not _has_packed_kernel():
        return lambda x: torch._int_mm(x, weight.t()) * scale
    packed = torch.ops.onednn.qlinear_prepack(weight, None)
    no_offset = torch.zeros(len(scale), dtype=torch.int32)
    product = torch.ops.onednn.qlinear_pointwise.default

    def multiply(x: torch.Tensor) -> torch.Tensor:
        sums: torch.Tensor = product(
            x, 1.0, 0, packed, scale, no_offset, None, 1.0, 0, torch.float32, "none", [], ""
        )
        return sums

    return multiply


@lru_cache(maxsize=1)
def _has_packed_kernel() -> bool:
    """oneDNN's product with weights packed beforehand: not in every build of torch, and without the
    processor's own integer dot products its sums may overflow."""
    import torch

    extremes = torch.full((2, 64), 127, dtype=torch.int8)
    extremes[1] = -128
    weight = torch.full((64, 64), 127, dtype=torch.int8)
    try:
        packed = torch.ops.onednn.qlinear_prepack(weight, None)
        sums = torch.ops.onednn.qlinear_pointwise.default(
            *(extremes, 1.0, 0, packed, torch.ones(64), torch.zeros(64, dtype=torch.int32), None),
            *(1.0, 0, torch.float32, "none", [], ""),
        )
    except (AttributeError, RuntimeError, NotImplementedError):
        return False
    return torch.equal(sums, (extremes.float() @ weight.float().t()))


def in_format(linear: PlainLinear, dtype: str, *, head: bool = False) -> Linear:
    """The same layer in another weight format; a head keeps int8 where the others go to int4."""
    weight, bias = linear.weight, linear.bias
    if dtype not in NARROW_ROWS:
        # A head often shares its weights with the embedding, so that another order would be a copy.
        return _ordered(linear) if dtype == "bfloat16" and not head else linear
    if head:
        return Int8Head(weight, bias)
    if dtype == "int8":
        numbers, scale = in_int8(weight)
        narrow: Linear = Int8Linear(numbers, scale, bias)
        wide = numbers * scale[:, None]
    else:
        levels, scale, middle = in_int4(weight)
        narrow = Int4Linear(levels, scale, middle, bias)
        wide = ((levels - 8) * scale + middle).flatten(1)
    return ByWidth(narrow, _ordered(PlainLinear(wide.to(weight.dtype), bias)), NARROW_ROWS[dtype])


def _ordered(plain: PlainLinear) -> Linear:
    import torch

    is_fit = plain.weight.dtype == torch.bfloat16 and plain.weight.device.type == "cpu"
    return OrderedLinear(plain) if is_fit and _has_ordered_kernel() else plain


@lru_cache(maxsize=1)
def _has_ordered_kernel() -> bool:
    """Not in every build of torch, nor on every processor."""
    import torch

    plain = PlainLinear(torch.eye(64, dtype=torch.bfloat16))
    try:
        return torch.equal(OrderedLinear(plain)(plain.weight), plain.weight)
    except (AttributeError, RuntimeError, NotImplementedError):
        return False


def in_int8(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Whole numbers of -127 to 127 [outputs, inputs], and their scales [outputs]."""
    import torch

    full = weight.float()
    # What rounding the scale loses, the weights can take up.
    scale = (full.abs().amax(1) / 127).clamp_min(1e-12).to(torch.bfloat16).float()
    return torch.round(full / scale[:, None]).clamp_(-127, 127).to(torch.int8), scale


def in_int4(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Levels of 0 to 15 [outputs, groups, GROUP], and each group's scale and middle [outputs, groups, 1]."""
    import torch

    outputs, inputs = weight.shape
    if inputs % GROUP:
        raise ModelError(f"int4 needs layers whose inputs come in multiples of {GROUP}, not {inputs}")
    grouped = weight.float().view(outputs, inputs // GROUP, GROUP)
    low, high = grouped.amin(2, keepdim=True), grouped.amax(2, keepdim=True)
    scale = ((high - low) / 15).clamp_min(1e-9).to(torch.bfloat16).float()
    middle = (low + scale * 8).to(torch.bfloat16).float()
    levels = torch.round((grouped - middle) / scale + 8).clamp_(0, 15).to(torch.int32)
    return levels, scale, middle
