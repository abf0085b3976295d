"""Exact mode: a row's result does not depend on the batch it came in.

Matrix kernels sum in another order at another width, so the same position gives slightly different logits in
another batch. Here every pass runs in tiles of one fixed number of rows through the same kernels, attention
works row by row over key blocks fixed by the row's own position, and the head is in float32. Slower (weights
are read once per tile), and the price is what `cascade bench model` prints.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .kv import BLOCK, Piece
from .ragged import AttentionCall, Span

if TYPE_CHECKING:
    import torch

__all__ = ["TILE_ROWS", "ExactPlan", "float32_head", "tiles"]

TILE_ROWS = 8
"""Rows of every pass in exact mode. Part of the numerics class: another width gives other sums."""


@dataclass(slots=True)
class ExactPlan:
    """The rows of one tile. All shapes in here follow from a row's position, none from its company."""

    spans: Sequence[Span]

    def attend(self, call: AttentionCall) -> torch.Tensor:
        num_heads, num_rows, _ = call.query.shape
        output = call.query.new_zeros(num_rows, num_heads, call.value.shape[2])
        both = call.keys_and_values()
        for span in self.spans:
            span.sequence.write(call.layer, span.past, both[:, span.start : span.start + span.count])
            blocks = 0
            for index in range(span.count):
                position = span.past + index
                if position // BLOCK + 1 != blocks:
                    blocks = position // BLOCK + 1
                    whole = _contiguous(span.sequence.whole(call.layer, blocks * BLOCK))
                row = span.start + index
                output[row] = _attend_row(call, call.query[:, row], whole, position)
        return output


def tiles(spans: Sequence[Span]) -> list[list[Span]]:
    """Cut the rows of a pass into tiles of at most TILE_ROWS, each text's rows in order."""
    result: list[list[Span]] = []
    room = 0
    for span in spans:
        done = 0
        while done < span.count:
            if not room:
                result.append([])
                room = TILE_ROWS
            count = min(room, span.count - done)
            result[-1].append(Span(span.sequence, TILE_ROWS - room, count, span.past + done))
            room -= count
            done += count
    return result


def float32_head(module: Any) -> None:
    """Replace the model's head by one in float32 (and give it weights of its own, if they were tied)."""
    import torch

    head = module.get_output_embeddings()
    if head.weight.dtype == torch.float32:
        return
    wide = torch.nn.Linear(1, 1, bias=head.bias is not None, device="meta")
    wide.in_features, wide.out_features = head.in_features, head.out_features
    wide.weight = torch.nn.Parameter(head.weight.detach().float(), requires_grad=False)
    if head.bias is not None:
        wide.bias = torch.nn.Parameter(head.bias.detach().float(), requires_grad=False)
    wide.register_forward_pre_hook(lambda _, inputs: (inputs[0].float(),))
    module.set_output_embeddings(wide)


def _contiguous(piece: Piece) -> Piece:
    # Capacities differ from text to text, and with them the strides, which choose kernels too.
    return piece[0].float().contiguous(), piece[1].float().contiguous()


def _attend_row(call: AttentionCall, query: torch.Tensor, whole: Piece, position: int) -> torch.Tensor:
    """query [q_heads, dim] -> [q_heads, value_dim], in float32 inside."""
    import torch

    keys, values = whole
    packed = query.float().reshape(keys.shape[0], -1, query.shape[1])
    scores = torch.bmm(packed, keys.transpose(1, 2)) * call.scaling
    if call.softcap is not None:
        scores = torch.tanh(scores / call.softcap) * call.softcap
    scores[:, :, position + 1 :] = -torch.inf
    if call.window is not None and position + 1 > call.window:
        scores[:, :, : position + 1 - call.window] = -torch.inf
    weights = torch.softmax(scores, dim=-1)
    return torch.bmm(weights, values).reshape(query.shape[0], -1).to(query.dtype)
