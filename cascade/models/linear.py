"""Linear layers in each weight format, behind one call: rows in, rows out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from ..errors import ModelError

if TYPE_CHECKING:
    import torch

__all__ = ["Int4Linear", "Int8Linear", "Linear", "PlainLinear", "in_format"]

INT8_NARROW_ROWS = 3
"""Up to so many rows the weight-only kernel is faster than exact integers (see `cascade bench model`)."""

GROUP = 32
"""Weights that share a scale in int4: smaller groups keep more of the model, larger ones save little."""


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
    work; the sums are exact integers, hence independent of the width.
    """

    __slots__ = ("bias", "scale", "scale16", "weight", "wide_output")

    def __init__(
        self, weight: torch.Tensor, bias: torch.Tensor | None = None, *, wide_output: bool = False
    ) -> None:
        """`wide_output` gives float32 results (a head's logits tie in bfloat16)."""
        import torch

        full = weight.float()
        self.scale = (full.abs().amax(1) / 127).clamp_min(1e-12)
        self.weight = torch.round(full / self.scale[:, None]).to(torch.int8)
        self.scale16 = self.scale.to(torch.bfloat16)
        # What rounding the scale would lose, the weights can take up: both kernels use one scale.
        self.scale = self.scale16.float()
        self.weight = torch.round(full / self.scale[:, None]).clamp_(-127, 127).to(torch.int8)
        self.bias = bias
        self.wide_output = wide_output

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        import torch

        if self.wide_output or x.shape[0] > INT8_NARROW_ROWS:
            out = self._by_integers(x)
            out = out if self.wide_output else out.to(x.dtype)
        else:
            out = torch.ops.aten._weight_int8pack_mm(x.contiguous(), self.weight, self.scale16)
        return out if self.bias is None else out + self.bias

    def _by_integers(self, x: torch.Tensor) -> torch.Tensor:
        import torch

        rows = x.shape[0]
        wide = x.float()
        step = wide.abs().amax(1, keepdim=True).clamp_min(1e-20) / 127
        wide = wide / step
        coarse = torch.round(wide)
        fine = torch.round((wide - coarse) * 254)
        sums: torch.Tensor = torch._int_mm(torch.cat([coarse, fine]).to(torch.int8), self.weight.t())
        return (sums[:rows] + sums[rows:] * (1 / 254)) * step * self.scale


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

        out: torch.Tensor = torch.ops.aten._weight_int4pack_mm_for_cpu(
            x.contiguous(), self.packed, GROUP, self.scales
        )
        return out if self.bias is None else out + self.bias


def in_format(linear: PlainLinear, dtype: str, *, head: bool = False) -> Linear:
    """The same layer in another weight format; a head keeps int8 where the others go to int4."""
    if dtype == "int8" or (dtype == "int4" and head):
        return Int8Linear(linear.weight, linear.bias, wide_output=head)
    return Int4Linear(linear.weight, linear.bias) if dtype == "int4" else linear
