"""Long answers: what a pass does besides attention does not depend on how long the text is."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from cascade.lab.steady import decode_steadily
from cascade.models import bundled
from cascade.models.base import Feed
from cascade.models.huggingface import HuggingFaceModel

from .families import build, text


class NumbersWritten(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the numbers that operations write: new results, and what is changed in place; views are free."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        # Weights in a kernel's own order have no storage to ask for, and nothing writes to them.
        plain = (arg for arg in args if isinstance(arg, torch.Tensor) and arg.layout == torch.strided)
        known = {arg.untyped_storage().data_ptr() for arg in plain}
        result = func(*args, **(kwargs or {}))
        in_place = func._schema.is_mutable
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, torch.Tensor):
                is_view = tensor.untyped_storage().data_ptr() in known
                self.count += tensor.numel() if in_place or not is_view else 0
        return result


def numbers_written(model: HuggingFaceModel, length: int) -> int:
    """By the pass that feeds one token to a text of `length`, room for it being there."""
    sequence = model.new_sequence()
    tokens = [token % model.vocab_size for token in range(length - 1)]
    model.forward([Feed(sequence, tokens, 0)])
    model.forward([Feed(sequence, [5], 1)])  # makes the room
    with NumbersWritten() as written:
        model.forward([Feed(sequence, [5], 1)])
    sequence.release()
    return int(written.count)


@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen3"])
def test_nothing_is_copied_as_the_text_grows(family: str) -> None:
    model = HuggingFaceModel(build(family))
    assert numbers_written(model, 20) == numbers_written(model, 90)


def test_a_steady_answer_takes_the_memory_that_is_computed() -> None:
    model = HuggingFaceModel(build("llama"))
    found = decode_steadily(model, text(5, 1), 90, count().__next__)
    per_token = sum(shape.numbers_per_token for shape in model.shapes) * 4
    assert found["computed_bytes"] == (5 + 90) * per_token
    assert found["computed_bytes"] <= found["cache_bytes"] <= 2 * found["computed_bytes"] + 64 * per_token
    assert model.cache_bytes == 0
    assert len(found["pass_ms_by_window"]) == 1


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_two_thousand_tokens_of_the_real_target() -> None:
    torch.set_num_threads(1)  # where others work too, two threads wait for each other most of the time
    bundled.fetch("smollm2-135m")
    model = HuggingFaceModel.load("smollm2-135m", dtype="int8", device="cpu")
    assert numbers_written(model, 300) == numbers_written(model, 1900)
    found = decode_steadily(model, [1, 2, 3, 4, 5], 2000, count().__next__)
    assert found["cache_bytes"] <= 2 * found["computed_bytes"]
    # oneDNN and the allocator keep a little of their own; a copy of the cache left behind would be 46 MB.
    assert found["resident_growth_bytes"] <= found["cache_bytes"] + 40e6
    assert found["resident_growth_after_release_bytes"] <= 40e6
    assert model.cache_bytes == 0
