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
from cascade.models.linear import (
    ByWidth,
    Int4Linear,
    Int8Head,
    Int8Linear,
    PlainLinear,
    in_format,
    in_int4,
    in_int8,
)

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


@pytest.mark.parametrize("width", [1, 2, 4, 5, 8, 9, 33])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("dtype", ["bfloat16", "int8", "int4"])
def test_kernels_agree_at_every_width(dtype: str, width: int, bias: bool) -> None:
    torch.manual_seed(0)
    weight, offset = torch.randn(96, 64).bfloat16(), torch.randn(96).bfloat16()
    x = torch.randn(33, 64).bfloat16()[:width]
    x[:, 7] *= 100  # activations of real models have such outliers
    numbers = {"bfloat16": weight.float(), "int8": from_int8(weight), "int4": from_int4(weight)}[dtype]
    expected = x.float() @ numbers.t() + (offset.float() if bias else 0)
    linear = in_format(PlainLinear(weight, offset if bias else None), dtype)
    kernels = [linear.narrow, linear.wide] if isinstance(linear, ByWidth) else []
    for kernel in (linear, *kernels):
        assert kernel(x).shape == (width, 96)
        assert relative(kernel(x), expected) < 5e-3


def from_int8(weight: torch.Tensor) -> torch.Tensor:
    numbers, scale = in_int8(weight)
    return numbers * scale[:, None]


def from_int4(weight: torch.Tensor) -> torch.Tensor:
    levels, scale, middle = in_int4(weight)
    return ((levels - 8) * scale + middle).flatten(1)


def test_without_the_ordered_kernel_the_products_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = PlainLinear(torch.randn(96, 64).bfloat16())
    x = torch.randn(5, 64).bfloat16()
    ordered = in_format(plain, "bfloat16")
    monkeypatch.setattr("cascade.models.linear._has_ordered_kernel", lambda: False)
    assert in_format(plain, "bfloat16") is plain
    torch.testing.assert_close(ordered(x), plain(x))


def test_the_width_chooses_the_kernel() -> None:
    linear = ByWidth(lambda x: x * 0, lambda x: x + 1, narrow_rows=3)
    assert not linear(torch.ones(3, 2)).any()
    assert linear(torch.ones(4, 2)).all()


@pytest.mark.parametrize("width", [1, 8, 33])
def test_a_head_is_finer_than_bfloat16(width: int) -> None:
    torch.manual_seed(0)
    weight, offset = torch.randn(96, 64).bfloat16(), torch.randn(96).bfloat16()
    x = torch.randn(33, 64).bfloat16()[:width]
    x[:, 7] *= 100
    expected = x.float() @ from_int8(weight).t() + offset.float()
    assert relative(Int8Head(weight, offset)(x), expected) < 1e-4


def test_a_heads_sums_do_not_depend_on_the_width() -> None:
    torch.manual_seed(0)
    head = Int8Head(torch.randn(96, 64).bfloat16())
    x = torch.randn(16, 64).bfloat16()
    whole = head(x)
    assert all(torch.equal(head(x[at : at + 1])[0], whole[at]) for at in range(16))


def test_without_packed_weights_the_sums_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    weight, x = torch.randn(96, 64).bfloat16(), torch.randn(9, 64).bfloat16()
    packed = Int8Head(weight)(x)
    monkeypatch.setattr("cascade.models.linear._has_packed_kernel", lambda: False)
    assert torch.allclose(Int8Head(weight)(x), packed, rtol=1e-6, atol=1e-6)


def test_int4_is_what_its_levels_say() -> None:
    torch.manual_seed(0)
    weight = torch.randn(64, 96).bfloat16()
    x = torch.eye(96).bfloat16()
    linear = Int4Linear(*in_int4(weight))
    step = (weight.float().view(64, 3, 32).amax(2) - weight.float().view(64, 3, 32).amin(2)) / 15
    error = (linear(x).float().t().view(64, 3, 32) - weight.float().view(64, 3, 32)).abs()
    assert bool((error <= 0.55 * step[:, :, None] + 0.03).all())
    with pytest.raises(ModelError, match="multiples of 32"):
        in_int4(torch.randn(8, 20))


def test_formats_by_name() -> None:
    plain = PlainLinear(torch.randn(64, 64).bfloat16())
    kernels = {"int8": Int8Linear, "int4": Int4Linear}
    for dtype, kernel in kernels.items():
        layer = in_format(plain, dtype)
        assert isinstance(layer, ByWidth)
        assert isinstance(layer.narrow, kernel)
        assert isinstance(in_format(plain, dtype, head=True), Int8Head)
    assert in_format(plain, "float32") is plain
    assert in_format(plain, "bfloat16", head=True) is plain


def test_the_numerics_class_names_the_format() -> None:
    names = {
        HuggingFaceModel(build("llama", **WIDE).bfloat16(), dtype=d).numerics for d in ("bfloat16", "int8")
    }
    assert len(names) == 2
