"""Decoding in plain Python, slow and readable: what a port to another language copies; and its test vectors.

    python tools/decoding_vectors.py            exit code 1 where docs/vectors/decoding.json is out of date
    python tools/decoding_vectors.py --write    bring it up to date

Nothing of the library is used here, so the vectors judge the library too.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PATH = Path(__file__).parent.parent / "docs/vectors/decoding.json"
MASK = 2**32 - 1
MASKED = -math.inf

ABOUT = (
    "Test vectors of cascade.decoding (the rules stand in noise.py, cuts.py, sampler.py, agreement.py and "
    "stopping.py). Seeds are decimal strings, since they have 64 bits. gumbel is in units of 2^-24. A "
    "logit of null is minus infinity; other logits are multiples of 1/8."
)


def mix(x: int) -> int:
    """lowbias32."""
    x ^= x >> 16
    x = x * 0x7FEB352D & MASK
    x ^= x >> 15
    x = x * 0x846CA68B & MASK
    return x ^ x >> 16


def hash_u32(seed: int, position: int, token: int) -> int:
    lo, hi = seed & MASK, seed >> 32
    s0 = mix(mix(lo ^ 0x9E3779B9) ^ hi)
    s1 = mix(mix(hi ^ 0x85EBCA6B) ^ lo)
    k0 = mix(s0 ^ position)
    k1 = mix(s1 ^ k0) | 1
    return mix((mix(token) ^ k0) * k1 & MASK)


def gumbel_units(seed: int, position: int, token: int) -> int:
    """Noise in units of 2^-24."""
    u = (hash_u32(seed, position, token) + 0.5) / 2**32
    return round(-math.log(-math.log(u)) * 2**24)


def survivors(
    logits: Sequence[float], *, temperature: float, top_k: int = 0, top_p: float = 1.0, min_p: float = 0.0
) -> list[int]:
    """Ids that the cuts leave, ascending. `temperature` above 0."""
    ranking = sorted(range(len(logits)), key=lambda token: (-logits[token], token))
    largest = logits[ranking[0]]
    ranking = [token for token in ranking if logits[token] > MASKED][: top_k or None]
    depths = [logits[token] / temperature - largest / temperature for token in ranking]
    weights = [round(math.exp(depth) * 2**32) for depth in depths]
    before = 0
    kept = []
    for token, depth, weight in zip(ranking, depths, weights, strict=True):
        stays_p = top_p == 1 or before == 0 or before < top_p * sum(weights)
        if stays_p and (min_p == 0 or depth >= math.log(min_p)):
            kept.append(token)
        before += weight
    return sorted(kept)


def scores(logits: Sequence[float], sampling: dict[str, Any], position: int) -> dict[int, float]:
    """Score of each token that survives; logits at temperature 0."""
    cuts = {name: value for name, value in sampling.items() if name != "seed"}
    temperature = cuts["temperature"]
    if temperature == 0:
        return {token: logit for token, logit in enumerate(logits) if logit > MASKED}
    return {
        token: logits[token] / temperature + gumbel_units(sampling["seed"], position, token) / 2**24
        for token in survivors(logits, **cuts)
    }


def pick(logits: Sequence[float], sampling: dict[str, Any], position: int) -> int:
    """The best score; ties go to the lowest id."""
    found = scores(logits, sampling, position)
    return min(found, key=lambda token: (-found[token], token))


def kept_hints(
    hints: Sequence[int],
    rows: Sequence[Sequence[float]],
    sampling: dict[str, Any],
    position: int,
    alpha: float,
) -> int:
    """How many hints are kept: those equal to the pick and, for alpha > 0, those close enough to it."""
    for i, hint in enumerate(hints):
        own = pick(rows[i], sampling, position + i)
        found = scores(rows[i], sampling, position + i)
        is_close = alpha > 0 and found.get(hint, MASKED) >= found[own] + math.log1p(-alpha)
        if hint != own and not is_close:
            return i
    return len(hints)


def vectors() -> dict[str, Any]:
    """Everything in the file."""
    words = [0, 1, 2, 255, 65_536, 49_151, 0x7FFFFFFF, 0x80000000, 0xDEADBEEF, MASK]
    seeds = [0, 1, 42, 2**32, 2**32 + 1, 2**53 + 1, 0x0123456789ABCDEF, 2**64 - 1]
    places = [(0, 0), (0, 1), (1, 0), (17, 49_151), (8191, 151_935), (MASK, MASK)]
    return {
        "about": ABOUT,
        "mix": [[word, mix(word)] for word in words],
        "hash": [
            {"seed": str(seed), "position": p, "token": t, "hash": hash_u32(seed, p, t)}
            for seed in seeds
            for p, t in places
        ],
        "gumbel": [
            {"seed": str(seed), "position": p, "token": t, "gumbel": gumbel_units(seed, p, t)}
            for seed in seeds
            for p, t in places
        ],
        "pick": [_pick_case(i) for i in range(60)],
        "kept_hints": [_kept_case(i) for i in range(16)],
        "cut": [
            {"tokens": [5, 6, 7], "position": 10, "stop_ids": [2], "limit": 20, "kept": 3, "finish": None},
            {"tokens": [5, 2, 7], "position": 10, "stop_ids": [2], "limit": 20, "kept": 2, "finish": "stop"},
            {
                "tokens": [2, 3, 7],
                "position": 10,
                "stop_ids": [3, 2],
                "limit": 20,
                "kept": 1,
                "finish": "stop",
            },
            {
                "tokens": [5, 6, 7],
                "position": 10,
                "stop_ids": [2],
                "limit": 13,
                "kept": 3,
                "finish": "length",
            },
            {"tokens": [5, 6, 7], "position": 10, "stop_ids": [], "limit": 12, "kept": 2, "finish": "length"},
            {"tokens": [5, 6, 2], "position": 10, "stop_ids": [2], "limit": 13, "kept": 3, "finish": "stop"},
            {
                "tokens": [5, 6, 2],
                "position": 10,
                "stop_ids": [2],
                "limit": 12,
                "kept": 2,
                "finish": "length",
            },
            {"tokens": [2], "position": 10, "stop_ids": [2], "limit": 10, "kept": 0, "finish": "length"},
            {"tokens": [], "position": 10, "stop_ids": [2], "limit": 11, "kept": 0, "finish": None},
        ],
    }


def _logits(case: int, row: int, size: int) -> list[float]:
    """Multiples of 1/8 with many ties, some of them masked."""
    words = [hash_u32(1000 + case, row, token) for token in range(size)]
    return [MASKED if word % 11 == 0 and token else (word >> 8) % 41 / 8 for token, word in enumerate(words)]


def _sampling(case: int) -> dict[str, Any]:
    return {
        "temperature": (0.0, 0.5, 0.7, 1.0, 2.0)[case % 5],
        "top_k": (0, 0, 3, 1, 6, 40)[case % 6],
        "top_p": (1.0, 0.9, 1.0, 0.5, 0.25, 0.0, 0.999)[case % 7],
        "min_p": (0.0, 0.0, 0.1, 0.0, 1.0, 0.01, 0.0, 0.5)[case % 8],
        "seed": case * 0x9E3779B97F4A7C15 % 2**64,
    }


def _pick_case(case: int) -> dict[str, Any]:
    logits, sampling, position = _logits(case, 0, 8 + case % 9), _sampling(case), 100 * case
    found = scores(logits, sampling, position)
    return {
        "logits": [None if logit == MASKED else logit for logit in logits],
        **sampling,
        "seed": str(sampling["seed"]),
        "position": position,
        "survivors": sorted(found),
        "pick": pick(logits, sampling, position),
    }


def _kept_case(case: int) -> dict[str, Any]:
    rows = [_logits(case, row, 8) for row in range(4)]
    sampling = {"temperature": (0.0, 1.0)[case % 2], "top_k": 0, "top_p": 1.0, "min_p": 0.0, "seed": case}
    alpha = (0.0, 0.3, 0.7, 0.9)[case // 2 % 4]
    hints = [pick(row, sampling, 50 + i) for i, row in enumerate(rows)]
    spoilt = case % 4
    hints[spoilt] = max(
        (token for token in range(8) if token != hints[spoilt]),
        key=lambda token: scores(rows[spoilt], sampling, 50 + spoilt).get(token, MASKED),
    )
    return {
        "rows": [[None if logit == MASKED else logit for logit in row] for row in rows],
        **sampling,
        "seed": str(sampling["seed"]),
        "position": 50,
        "alpha": alpha,
        "hints": hints,
        "kept": kept_hints(hints, rows, sampling, 50, alpha),
    }


def text() -> str:
    """The file: one case a line."""
    parts = []
    for name, value in vectors().items():
        if isinstance(value, str):
            parts.append(f" {json.dumps(name)}: {json.dumps(value)}")
        else:
            lines = ",\n".join(f"  {json.dumps(case)}" for case in value)
            parts.append(f" {json.dumps(name)}: [\n{lines}\n ]")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def main() -> int:
    fresh = text()
    if "--write" in sys.argv[1:]:
        PATH.write_text(fresh, encoding="utf-8")
        return 0
    if PATH.exists() and PATH.read_text(encoding="utf-8") == fresh:
        return 0
    print(f"{PATH.name} is out of date; `python tools/decoding_vectors.py --write`", file=sys.stderr)
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
