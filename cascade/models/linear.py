"""Linear layers in each weight format, behind one call: rows in, rows out."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol

from ..errors import ModelError

if TYPE_CHECKING:
    import torch

__all__ = ["Int4Linear", "Int8Linear", "Linear", "PlainLinear", "in_format"]

INT8_NARROW_ROWS = 3
"""Up to so many rows the weight-only kernel is faster than exact integers (see `cascade bench model`)."""

GROUP = 32
"""Weights that share a scale in int4: smaller groups keep more of the model, larger ones save little."""


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


class Int8Linear:
    """Weights in int8 with a scale per output.

    Few rows: torch's weight-only kernel, which reads the weights once. More rows: each activation as two int8
    numbers (a coarse and a fine one, together 16 bits), so that the processor's integer dot products do the
    work; the sums are exact integers, hence independent of the width. That kernel wants the weights in an
    order of its own, so they are held twice.
    """

    __slots__ = ("_integers", "bias", "scale", "scale16", "weight", "wide_output")

    def __init__(
        self, weight: torch.Tensor, bias: torch.Tensor | None = None, *, wide_output: bool = False
    ) -> None:
        """`wide_output` gives float32 results (a head's logits tie in bfloat16)."""
        import torch

        full = weight.float()
        # What rounding the scale would lose, the weights can take up: both kernels use one scale.
        self.scale16 = (full.abs().amax(1) / 127).clamp_min(1e-12).to(torch.bfloat16)
        self.scale = self.scale16.float()
        rounded = torch.round(full / self.scale[:, None]).clamp_(-127, 127).to(torch.int8)
        self._integers = _integer_product(rounded, self.scale)
        self.weight = None if wide_output else rounded
        self.bias = bias
        self.wide_output = wide_output

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        import torch

        if self.weight is None or x.shape[0] > INT8_NARROW_ROWS:
            out = self._by_integers(x)
            out = out if self.wide_output else out.to(x.dtype)
        else:
            out = torch.ops.aten._weight_int8pack_mm.default(x.contiguous(), self.weight, self.scale16)
        return out if self.bias is None else out + self.bias

    def _by_integers(self, x: torch.Tensor) -> torch.Tensor:
        import torch

        rows, inputs = x.shape
        step = x.abs().amax(1, keepdim=True).float().clamp_min(1e-20) / 127
        halves = torch.empty(2, rows, inputs)
        wide = x / step
        torch.round(wide, out=halves[0])
        torch.sub(wide, halves[0], out=halves[1])
        halves[1].mul_(FINER).round_()
        sums = self._integers(halves.view(2 * rows, inputs).to(torch.int8))
        return torch.add(sums[:rows], sums[rows:], alpha=1 / FINER).mul_(step)


class Int4Linear:
    """Weights in int4, GROUP of them with one scale and offset."""

    __slots__ = ("bias", "packed", "scales")

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None = None) -> None:
        import torch

        outputs, inputs = weight.shape
        if inputs % GROUP:
            raise ModelError(f"int4 needs layers whose inputs come in multiples of {GROUP}, not {inputs}")
        grouped = weight.float().view(outputs, inputs // GROUP, GROUP)
        low, high = grouped.amin(2, keepdim=True), grouped.amax(2, keepdim=True)
        scale = ((high - low) / 15).clamp_min(1e-9).to(torch.bfloat16).float()
        middle = (low + scale * 8).to(torch.bfloat16).float()
        levels = torch.round((grouped - middle) / scale + 8).clamp_(0, 15).to(torch.int32)
        self.packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(levels.view(outputs, inputs), 1)
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
    if dtype == "int8" or (dtype == "int4" and head):
        return Int8Linear(linear.weight, linear.bias, wide_output=head)
    return Int4Linear(linear.weight, linear.bias) if dtype == "int4" else linear
