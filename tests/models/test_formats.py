"""Weights in int8 and int4, and the lean loop: close to the model they stand for.

Random models amplify every rounding, so whole models get wide bounds here and single layers narrow ones.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from cascade.errors import ModelError
from cascade.models.base import Feed
from cascade.models.huggingface import HuggingFaceModel
from cascade.models.lean import LeanDecoder
from cascade.models.linear import Int4Linear, Int8Linear, PlainLinear, in_format

from .families import build, stock_logits, text

WIDE: dict[str, Any] = {"hidden_size": 64, "intermediate_size": 128}
PLAIN_LEAN = ["llama", "mistral", "qwen2", "qwen3"]


def relative(ours: torch.Tensor, reference: torch.Tensor) -> float:
    return float((ours.float() - reference.float()).norm() / reference.float().norm())


@pytest.mark.parametrize("family", PLAIN_LEAN)
def test_the_lean_loop_is_used_and_can_be_refused(family: str) -> None:
    tokens = text(40, 1)
    rows = []
    for lean in (True, False):
        model = HuggingFaceModel(build(family), lean=lean)
        assert LeanDecoder.can_take(build(family))
        rows.append(model.forward([Feed(model.new_sequence(), tokens, 40)]))
    torch.testing.assert_close(rows[0], rows[1], rtol=0.0, atol=1e-4)


@pytest.mark.parametrize("family", ["gemma2", "gpt2", "phi3", "granite"])
def test_other_families_run_through_their_own_code(family: str) -> None:
    assert not LeanDecoder.can_take(build(family))


@pytest.mark.parametrize(("dtype", "allowed"), [("int8", 0.15), ("int4", 0.8)])
@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma2", "gpt2"])
def test_quantised_models_stay_close(family: str, dtype: str, allowed: float) -> None:
    changes: dict[str, Any] = {} if family == "gpt2" else WIDE
    tokens = text(48, 2)
    model = HuggingFaceModel(build(family, **changes).bfloat16(), dtype=dtype)
    sequence = model.new_sequence()
    first = model.forward([Feed(sequence, tokens[:46], 46)])
    rest = [model.forward([Feed(sequence, [token], 1)]) for token in tokens[46:]]
    rows = torch.cat([first, *rest])
    assert rows.dtype == torch.float32
    assert relative(rows, stock_logits(build(family, **changes), tokens)) < allowed
    assert model.forward([Feed(sequence, tokens[:2], 0)]).shape[0] == 0


@pytest.mark.parametrize("width", [1, 2, 3, 4, 5, 8, 33])
@pytest.mark.parametrize("bias", [False, True])
def test_int8_kernels_agree_at_every_width(width: int, bias: bool) -> None:
    torch.manual_seed(0)
    weight, offset = torch.randn(96, 64).bfloat16(), torch.randn(96).bfloat16()
    x = torch.randn(33, 64).bfloat16()
    x[:, 7] *= 100  # activations of real models have such outliers
    linear = Int8Linear(weight, offset if bias else None)
    assert linear.weight is not None
    reference = linear.weight.float() * linear.scale[:, None]
    expected = x[:width].float() @ reference.t() + (offset.float() if bias else 0)
    assert relative(linear(x[:width]), expected) < 5e-3
    assert relative(Int8Linear(weight, wide_output=True)(x[:width]), x[:width].float() @ reference.t()) < 1e-4


def test_int8_sums_do_not_depend_on_the_width() -> None:
    torch.manual_seed(0)
    linear = Int8Linear(torch.randn(96, 64).bfloat16(), wide_output=True)
    x = torch.randn(16, 64).bfloat16()
    whole = linear(x)
    assert all(torch.equal(linear(x[at : at + 1])[0], whole[at]) for at in range(16))


def test_without_packed_weights_the_sums_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    weight, x = torch.randn(96, 64).bfloat16(), torch.randn(9, 64).bfloat16()
    packed = Int8Linear(weight, wide_output=True)(x)
    monkeypatch.setattr("cascade.models.linear._has_packed_kernel", lambda: False)
    assert torch.allclose(Int8Linear(weight, wide_output=True)(x), packed, rtol=1e-6, atol=1e-6)


def test_int4_is_what_its_levels_say() -> None:
    torch.manual_seed(0)
    weight = torch.randn(64, 96).bfloat16()
    x = torch.eye(96).bfloat16()
    linear = Int4Linear(weight)
    step = (weight.float().view(64, 3, 32).amax(2) - weight.float().view(64, 3, 32).amin(2)) / 15
    error = (linear(x).float().t().view(64, 3, 32) - weight.float().view(64, 3, 32)).abs()
    assert bool((error <= 0.55 * step[:, :, None] + 0.03).all())
    with pytest.raises(ModelError, match="multiples of 32"):
        Int4Linear(torch.randn(8, 20))


def test_formats_by_name() -> None:
    plain = PlainLinear(torch.randn(64, 64).bfloat16())
    assert isinstance(in_format(plain, "int8"), Int8Linear)
    assert isinstance(in_format(plain, "int4"), Int4Linear)
    assert isinstance(in_format(plain, "int4", head=True), Int8Linear)
    assert in_format(plain, "bfloat16") is plain


def test_the_numerics_class_names_the_format() -> None:
    names = {
        HuggingFaceModel(build("llama", **WIDE).bfloat16(), dtype=d).numerics for d in ("bfloat16", "int8")
    }
    assert len(names) == 2
