"""The benchmark of sampling runs, and its reference is fair."""

from __future__ import annotations

import json

import numpy as np

from cascade.decoding import Sampling
from cascade.decoding.cuts import survivors
from cascade.lab.bench import decoding


def test_figures_are_plain_and_complete() -> None:
    figures = decoding.run(repeats=1)
    assert json.loads(json.dumps(figures)) == figures
    assert {entry["method"] for entry in figures["sampling"]} == {*decoding.SAMPLINGS, "top_p_full_sort"}
    assert figures["full_sort_over_top_p"] > 1


def test_rows_are_peaked_as_a_language_models_are() -> None:
    rows = decoding._peaked_rows(np.random.default_rng(1))
    sampling = Sampling(temperature=decoding.TEMPERATURE, top_p=decoding.TOP_P)
    assert rows.shape == (32, 49_152)
    assert 50 < np.median([len(survivors(row, sampling)) for row in rows]) < 500
