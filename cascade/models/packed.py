"""Weights for the shelf: int8 with a scale for each row, a quarter of float32's size.

Matrices become whole numbers of -127 to 127; everything else (norms, biases) stays as it was. Loading makes
the model's own dtype of them again, so how a packed model runs is chosen when it is loaded, as for any other.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ModelError

if TYPE_CHECKING:
    import torch

__all__ = ["PACKED_FILE", "SCALE", "pack", "unpack"]

PACKED_FILE = "packed.safetensors"
SCALE = ".scale"
"""Behind a matrix's name: the name of its scales."""


def pack(weights: dict[str, torch.Tensor], path: Path) -> None:
    """Write a state dict; names of tied weights are left out by the caller, once is enough."""
    import torch
    from safetensors.torch import save_file

    packed: dict[str, torch.Tensor] = {}
    for name, weight in weights.items():
        if weight.dim() != 2:
            packed[name] = weight.to(torch.bfloat16).contiguous()
            continue
        # The scale is rounded first, so that the numbers make up for what it lost.
        scale = (weight.float().abs().amax(1) / 127).clamp_min(1e-12).to(torch.bfloat16)
        numbers = torch.round(weight.float() / scale.float()[:, None]).clamp_(-127, 127)
        packed[name] = numbers.to(torch.int8).contiguous()
        packed[name + SCALE] = scale
    save_file(packed, path, metadata={"format": "pt"})


def unpack(path: Path, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """The state dict that `pack` wrote, as `dtype`."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        packed = load_file(path)
        weights: dict[str, Any] = {}
        for name, tensor in packed.items():
            if name.endswith(SCALE):
                continue
            if tensor.dtype == torch.int8:
                tensor = tensor.float() * packed[name + SCALE].float()[:, None]
            weights[name] = tensor.to(dtype)
    except (OSError, SafetensorError, KeyError) as error:
        raise ModelError(f"{path} cannot be read: {error}; get the model again") from error
    return weights
