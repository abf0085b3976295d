"""Cross-entropy against distributions of which a few tokens are known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

__all__ = ["expected_loss"]

CHUNK_ROWS = 64
"""Rows in float32 at once: few enough to stay in a processor's cache from one operation to the next."""


def expected_loss(logits: torch.Tensor, ids: torch.Tensor, chances: torch.Tensor) -> torch.Tensor:
    """Sum over rows of -sum_k chances[k] * log softmax(logits)[ids[k]].

    logits [R, V] of any type, ids [R, K], chances [R, K] in float32. Inside it is float32, whatever the type
    of the logits.
    """
    import torch

    class ExpectedLoss(torch.autograd.Function):
        """Forward makes the gradient as well, while a chunk's exponentials are at hand."""

        @staticmethod
        def forward(ctx: Any, logits: torch.Tensor) -> torch.Tensor:
            gradient = torch.empty_like(logits)
            total = torch.zeros((), dtype=torch.float64, device=logits.device)
            for at in range(0, len(logits), CHUNK_ROWS):
                rows = slice(at, at + CHUNK_ROWS)
                wide = logits[rows].to(torch.float32, copy=True)
                log_sum = torch.logsumexp(wide, dim=1, keepdim=True)
                total += (chances[rows] * (log_sum - wide.gather(1, ids[rows]))).sum()
                share = wide.sub_(log_sum).exp_().mul_(chances[rows].sum(1, keepdim=True))
                gradient[rows] = share.scatter_add_(1, ids[rows], -chances[rows])
            ctx.save_for_backward(gradient)
            return total.float()

        @staticmethod
        def backward(ctx: Any, *upstream: torch.Tensor) -> torch.Tensor:
            (gradient,) = ctx.saved_tensors
            result: torch.Tensor = gradient * upstream[0]
            return result

    result: torch.Tensor = ExpectedLoss.apply(logits)  # type: ignore[no-untyped-call]
    return result
