"""Impossible settings are refused, by the name of their field."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest

from cascade.errors import SettingsError
from cascade.settings import check_choice, check_int, check_number, from_mapping


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Pacing:
    patience_s: float = 0.0
    window: int = 64

    def __post_init__(self) -> None:
        check_number("patience_s", self.patience_s, low=0)
        check_int("window", self.window, low=1, high=1024)


@pytest.mark.parametrize("value", [0, 0.5, 1, 2])
def test_numbers_in_range_pass(value: float) -> None:
    check_number("x", value, low=0, high=2)


@pytest.mark.parametrize("value", [-0.1, 2.1, math.nan, math.inf, -math.inf, True, None, "1", 1j])
def test_other_numbers_are_refused_by_name(value: Any) -> None:
    with pytest.raises(SettingsError, match=r"^rate_bps: must be ") as caught:
        check_number("rate_bps", value, low=0, high=2)
    assert caught.value.field == "rate_bps"


@pytest.mark.parametrize("value", [0, 2**63, -5, 1.0, False, None, "3"])
def test_integers_are_integers_in_range(value: Any) -> None:
    check_int("x", 1, low=1, high=2**40)
    with pytest.raises(SettingsError, match=r"^x: must be "):
        check_int("x", value, low=1, high=2**40)


def test_a_choice_lists_what_there_is() -> None:
    check_choice("policy", "plain", ("plain", "hinted"))
    with pytest.raises(SettingsError, match=r"policy: must be one of plain, hinted, not 'fast'"):
        check_choice("policy", "fast", ("plain", "hinted"))


def test_from_mapping_makes_settings() -> None:
    assert from_mapping(Pacing, {"window": 8}) == Pacing(window=8)


def test_from_mapping_refuses_unknown_keys_by_name() -> None:
    with pytest.raises(SettingsError, match=r"patience: unknown setting; Pacing knows") as caught:
        from_mapping(Pacing, {"window": 8, "patience": 1.0})
    assert caught.value.field == "patience"


def test_from_mapping_refuses_impossible_values_by_name() -> None:
    with pytest.raises(SettingsError, match=r"^window: must be at least 1, not 0"):
        from_mapping(Pacing, {"window": 0})
