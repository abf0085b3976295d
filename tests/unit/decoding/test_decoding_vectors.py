"""The library gives what docs/vectors/decoding.json says, and the file is what the reference says."""

from __future__ import annotations

import json
from typing import Any

import decoding_vectors as reference
import numpy as np
import pytest

from cascade.decoding import Sampling, cut, gumbel, hash_u32, lenient_prefix, pick, pick_rows, scores

VECTORS: dict[str, Any] = json.loads(reference.PATH.read_text(encoding="utf-8"))


def test_the_file_is_what_the_reference_makes() -> None:
    assert reference.PATH.read_text(encoding="utf-8") == reference.text()


def test_mix() -> None:
    assert [reference.mix(word) for word, _ in VECTORS["mix"]] == [mixed for _, mixed in VECTORS["mix"]]


@pytest.mark.parametrize("case", VECTORS["hash"], ids=str)
def test_hash(case: dict[str, Any]) -> None:
    assert hash_u32(int(case["seed"]), case["position"], case["token"]) == case["hash"]


@pytest.mark.parametrize("case", VECTORS["gumbel"], ids=str)
def test_gumbel(case: dict[str, Any]) -> None:
    assert gumbel(int(case["seed"]), case["position"], case["token"]) * 2**24 == case["gumbel"]


@pytest.mark.parametrize("case", range(len(VECTORS["pick"])))
def test_pick(case: int) -> None:
    vector = VECTORS["pick"][case]
    row = logits_of(vector["logits"])
    assert pick(row, sampling_of(vector), vector["position"]) == vector["pick"]
    ids, _ = scores(row, sampling_of(vector), vector["position"])
    assert ids.tolist() == vector["survivors"]


@pytest.mark.parametrize("case", range(len(VECTORS["kept_hints"])))
def test_kept_hints(case: int) -> None:
    vector = VECTORS["kept_hints"][case]
    rows = np.stack([logits_of(row) for row in vector["rows"]])
    sampling, position = sampling_of(vector), vector["position"]
    picks = pick_rows(rows, [sampling] * len(rows), range(position, position + len(rows))).tolist()
    kept = lenient_prefix(vector["hints"], picks, rows, sampling, position, alpha=vector["alpha"])
    assert kept == vector["kept"]


@pytest.mark.parametrize("case", VECTORS["cut"], ids=str)
def test_cut(case: dict[str, Any]) -> None:
    kept, finish = cut(
        case["tokens"], position=case["position"], stop_ids=set(case["stop_ids"]), limit=case["limit"]
    )
    assert (kept, finish) == (case["tokens"][: case["kept"]], case["finish"])


def logits_of(values: list[float | None]) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.array([-np.inf if value is None else value for value in values], dtype=np.float32)


def sampling_of(vector: dict[str, Any]) -> Sampling:
    return Sampling(
        temperature=vector["temperature"],
        top_k=vector["top_k"],
        top_p=vector["top_p"],
        min_p=vector["min_p"],
        seed=int(vector["seed"]),
    )
