"""A long answer, token by token: what a pass costs as the text grows, and what memory it takes."""

from __future__ import annotations

import gc
import resource
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cascade.models.huggingface import HuggingFaceModel

__all__ = ["decode_steadily", "resident_bytes"]

WINDOW = 250


def decode_steadily(
    model: HuggingFaceModel, prompt: Sequence[int], num_tokens: int, clock: Callable[[], float]
) -> dict[str, Any]:
    """Decode greedily, ends ignored; medians over windows of passes.

    Beside the growth of a pass stands that of its attention alone, measured on other keys of the same shape:
    nothing else may grow. Memory is what the cache says, what the shapes say, and what the system says.
    """
    from cascade.models.base import Feed

    sequence = model.new_sequence()
    feed, times = list(prompt), []
    before = resident_bytes()
    for _ in range(num_tokens + 1):
        start = clock()
        row = model.forward([Feed(sequence, feed, 1)])[-1]
        times.append(clock() - start)
        feed = [int(row.argmax())]
    grown = resident_bytes() - before
    windows = [times[at : at + WINDOW] for at in range(1, num_tokens, WINDOW)]
    medians = [statistics.median(window) * 1e3 for window in windows]
    middles = [len(prompt) + 1 + WINDOW * index + len(part) / 2 for index, part in enumerate(windows)]
    found = {
        "tokens": num_tokens,
        "window_tokens": WINDOW,
        "pass_ms_by_window": [round(value, 2) for value in medians],
        "slope_ms_per_1000_tokens": _slope(middles, medians),
        "attention_slope_ms_per_1000_tokens": _slope(
            middles, [_attention_ms(model, int(n), clock) for n in middles]
        ),
        "cache_bytes": sequence.memory_bytes,
        "computed_bytes": sequence.length * _bytes_per_token(model),
        "resident_growth_bytes": grown,
    }
    sequence.release()
    return {**found, "resident_growth_after_release_bytes": resident_bytes() - before}


def resident_bytes() -> int:
    """Memory of this process that is in use now; its peak where the system does not say."""
    gc.collect()
    statm = Path("/proc/self/statm")
    if statm.is_file():
        return int(statm.read_text().split()[1]) * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _attention_ms(model: HuggingFaceModel, length: int, clock: Callable[[], float]) -> float:
    """Attention of all layers for one row over `length` keys.

    Before each there is a pass of a short text: attention in a pass finds the caches full of weights.
    """
    import torch

    from cascade.models.base import Feed

    short = model.new_sequence()
    layers = []
    for shape in model.shapes:
        # Written to: pages of zeros that nobody wrote to are one page, which never leaves the caches.
        size = (1, shape.num_heads, length, shape.dim)
        both = torch.randn(size, device=model.device).to(model.cache_dtype)
        key, value = both[..., : shape.key_dim], both[..., shape.key_dim :]
        layers.append((key[:, :, : model.num_query_heads // shape.num_heads], key, value))
    times = []
    for _ in range(9):
        short.truncate(0)
        model.forward([Feed(short, [0], 1)])
        start = clock()
        for query, key, value in layers:
            torch.nn.functional.scaled_dot_product_attention(query, key, value)
        times.append(clock() - start)
    short.release()
    return statistics.median(times) * 1e3


def _bytes_per_token(model: HuggingFaceModel) -> int:
    numbers = sum(shape.numbers_per_token for shape in model.shapes)
    return int(numbers * model.cache_dtype.itemsize)


def _slope(lengths: Sequence[float], values_ms: Sequence[float]) -> float | None:
    """Of the straight line through the windows."""
    if len(lengths) < 2:
        return None
    return round(statistics.linear_regression(lengths, values_ms).slope * 1000, 3)
