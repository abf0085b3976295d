"""How fast a language model's passes are here, against the stock transformers library in the same run.

Every figure is a ratio of medians taken in turns (ours, theirs, ours, ...), so that a machine that others use
slows both down alike; the spread is the middle half of the measurements.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from ..steady import decode_steadily

__all__ = ["run"]

MODEL = "smollm2-135m"
FORMATS = ("bfloat16", "int8", "int4")
WIDTHS = (1, 2, 4, 8, 16, 32, 64)
PROMPT = "Why is the sky blue? Explain it in a few sentences."
AGREEMENT_TOKENS = 64
STEADY_FORMAT = "int8"
STEADY_TOKENS = 2000


def run(*, quick: bool = False, model: str = MODEL, exact: bool = True) -> dict[str, Any]:
    """Measure; `quick` takes fewer repetitions. Needs the bundled model (cascade models fetch)."""
    import torch

    from cascade.models.huggingface import HuggingFaceModel
    from cascade.models.loading import resolve
    from cascade.models.reading import read_module
    from cascade.models.tuning import tune

    repeats = 3 if quick else 9
    stock = read_module(resolve(model), torch.bfloat16, "cpu")
    stock.set_attn_implementation("sdpa")
    formats: dict[str, Any] = {}
    steady: dict[str, Any] = {}
    reference: list[int] = []
    for dtype in FORMATS:
        ours = HuggingFaceModel.load(model, dtype=dtype, device="cpu")
        tuning = tune(ours, time.perf_counter)
        prompt = _prompt(ours)
        tokens = _greedy(ours, prompt, AGREEMENT_TOKENS)
        reference = reference or tokens
        formats[dtype] = {
            "tuning": asdict(tuning),
            "single_stream": _single_stream(ours, stock, prompt, 16 if quick else 32, repeats),
            "eight_by_four": _eight_by_four(ours, stock, prompt, repeats),
            "cost_curve_ms": _cost_curve(ours, repeats),
            "agreement_with_bfloat16": _agreement(ours, prompt, reference),
        }
        if dtype == STEADY_FORMAT:
            steady = decode_steadily(ours, prompt, 500 if quick else STEADY_TOKENS, time.perf_counter)
        del ours
    result = {
        "model": model,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "formats": formats,
        "steady": {"dtype": STEADY_FORMAT, **steady},
    }
    if exact:
        ours = HuggingFaceModel.load(model, dtype="bfloat16", device="cpu", exact=True)
        result["exact"] = {"bfloat16": {"cost_curve_ms": _cost_curve(ours, repeats)}}
    return result


def _prompt(model: Any) -> list[int]:
    tokenizer = model.tokenizer
    if tokenizer.has_chat_template:
        return list(tokenizer.chat([{"role": "user", "content": PROMPT}]))
    return list(tokenizer.encode(PROMPT))


def _single_stream(
    model: Any, stock: Any, prompt: Sequence[int], num_tokens: int, repeats: int
) -> dict[str, Any]:
    """Milliseconds per token of one greedy stream, prefill included on both sides."""
    import torch

    ids = torch.tensor([list(prompt)])
    length = {"max_new_tokens": num_tokens, "min_new_tokens": num_tokens}

    def theirs() -> None:
        with torch.inference_mode():
            stock.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, **length)

    return _compare(lambda: _greedy(model, prompt, num_tokens), theirs, repeats, per=num_tokens)


def _eight_by_four(model: Any, stock: Any, prompt: Sequence[int], repeats: int) -> dict[str, Any]:
    """One pass of 8 sessions with 4 tokens each, against the stock model on one text of 32 tokens."""
    import torch

    from cascade.models.base import Feed

    sequences = [model.new_sequence() for _ in range(8)]
    model.forward([Feed(sequence, prompt, 0) for sequence in sequences])
    ids = torch.tensor([list((*prompt, *prompt, *prompt)[:32])])

    def ours() -> None:
        model.forward([Feed(sequence, prompt[:4], 4) for sequence in sequences])
        for sequence in sequences:
            sequence.truncate(len(prompt))

    def theirs() -> None:
        with torch.inference_mode():
            stock(input_ids=ids, use_cache=False)

    return _compare(ours, theirs, 2 * repeats)


def _cost_curve(model: Any, repeats: int) -> dict[str, float]:
    """Median milliseconds of a pass by its rows, all of one text with 64 tokens before them."""
    from cascade.models.base import Feed

    sequence = model.new_sequence()
    before = [5 + index for index in range(64)]
    model.forward([Feed(sequence, before, 0)])
    curve = {}
    for width in WIDTHS:
        tokens = [100 + index for index in range(width)]

        def once(tokens: list[int] = tokens) -> None:
            model.forward([Feed(sequence, tokens, len(tokens))])
            sequence.truncate(64)

        once()
        curve[str(width)] = round(statistics.median(_times(once, repeats)) * 1e3, 2)
    return curve


def _agreement(model: Any, prompt: Sequence[int], reference: Sequence[int]) -> float:
    """Share of the reference's tokens that this format would pick too, given what came before them."""
    from cascade.models.base import Feed

    sequence = model.new_sequence()
    rows = model.forward([Feed(sequence, [*prompt, *reference[:-1]], len(reference))])
    picks = rows.argmax(-1).tolist()
    same = sum(int(a == b) for a, b in zip(picks, reference, strict=True))
    return round(same / len(reference), 4)


def _greedy(model: Any, prompt: Sequence[int], num_tokens: int) -> list[int]:
    from cascade.models.base import Feed

    sequence = model.new_sequence()
    feed, out = list(prompt), []
    for _ in range(num_tokens):
        feed = [int(model.forward([Feed(sequence, feed, 1)])[-1].argmax())]
        out += feed
    sequence.release()
    return out


def _compare(
    ours: Callable[[], object], theirs: Callable[[], object], repeats: int, *, per: int = 1
) -> dict[str, Any]:
    """Both in turns; milliseconds per `per`, and how many times faster ours is."""
    ours()
    theirs()
    mine, stock = [], []
    for _ in range(repeats):
        mine += _times(ours, 1)
        stock += _times(theirs, 1)
    return {
        "ours_ms": _summary(mine, per),
        "stock_bfloat16_ms": _summary(stock, per),
        "times_faster": round(statistics.median(stock) / statistics.median(mine), 2),
    }


def _summary(seconds: Sequence[float], per: int) -> dict[str, float]:
    quarters = statistics.quantiles(seconds, n=4, method="inclusive")
    names = ("quarter", "median", "three_quarters")
    return {name: round(value * 1e3 / per, 2) for name, value in zip(names, quarters, strict=True)}


def _times(call: Callable[[], object], repeats: int) -> list[float]:
    result = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        result.append(time.perf_counter() - start)
    return result
