"""How to run a model is found by trying, with the caller's clock."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from cascade.models.huggingface import HuggingFaceModel
from cascade.models.tuning import tune

from .families import build

WIDE = {"hidden_size": 64, "intermediate_size": 96, "head_dim": 16}


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def counting(pass_s: Callable[[], float]) -> Callable[[], float]:
    """A clock for which every pass takes as long as `pass_s` says when it ends."""
    now_s = 0.0

    def clock() -> float:
        nonlocal now_s
        now_s += pass_s()
        return now_s

    return clock


@pytest.mark.parametrize("fastest", [1, 2])
def test_the_faster_number_of_threads_is_set(fastest: int) -> None:
    model = HuggingFaceModel(build("llama"))
    found = tune(model, counting(lambda: 1 + abs(torch.get_num_threads() - fastest)))
    assert found.num_threads == torch.get_num_threads() == fastest
    assert found.narrow_rows is None


def test_threads_that_were_asked_for_stay() -> None:
    model = HuggingFaceModel(build("llama"))
    assert tune(model, counting(lambda: torch.get_num_threads()), num_threads=2).num_threads == 2


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_packed_weights_are_used_while_they_are_faster(family: str) -> None:
    changes: dict[str, Any] = {} if family == "gpt2" else WIDE
    model = HuggingFaceModel(build(family, **changes).bfloat16(), dtype="int8")
    # Widths are even: an even limit means that this width is packed, an odd one that it is not.
    clock = counting(lambda: 9 if (limit := model.narrow_rows or 0) % 2 else limit)
    assert tune(model, clock).narrow_rows == model.narrow_rows == 8


def test_an_exact_models_threads_stay() -> None:
    model = HuggingFaceModel(build("llama"), exact=True)
    assert tune(model, counting(lambda: torch.get_num_threads())).num_threads == 2
