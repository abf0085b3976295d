"""Weight-only quantisation of any transformers module: its linear layers are replaced, nothing else."""

from __future__ import annotations

from typing import Any

from .linear import ByWidth, PlainLinear, in_format

__all__ = ["quantize"]


def quantize(module: Any, dtype: str) -> list[ByWidth]:
    """Put every linear layer of a bfloat16 module, head included, into int8 or int4.

    Returns those that have a kernel for each width.
    """
    import torch

    class Replacement(torch.nn.Module):
        """A linear layer of ours where the module expects one of torch's."""

        def __init__(self, plain: PlainLinear, *, head: bool) -> None:
            super().__init__()
            self.kernel = in_format(plain, dtype, head=head)
            self.num_outputs = int(plain.weight.shape[0])

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            rows = x.reshape(-1, x.shape[-1])
            if not rows.shape[0]:
                return x.new_empty(*x.shape[:-1], self.num_outputs)
            return self.kernel(rows).view(*x.shape[:-1], -1)

    head = module.get_output_embeddings()
    by_width = []
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            plain = _plain(child)
            if plain is not None:
                replacement = Replacement(plain, head=child is head)
                setattr(parent, name, replacement)
                if isinstance(replacement.kernel, ByWidth):
                    by_width.append(replacement.kernel)
    return by_width


def _plain(module: Any) -> PlainLinear | None:
    """The layer's weights as [outputs, inputs], whichever way its class keeps them."""
    import torch
    from transformers.pytorch_utils import Conv1D

    if type(module) is torch.nn.Linear:
        return PlainLinear(module.weight.detach(), module.bias)
    if type(module) is Conv1D:
        return PlainLinear(module.weight.detach().t().contiguous(), module.bias)
    return None
