"""Logits in, token out: greedy, or a seeded sample of the softmax.

score = logit / T + g(seed, position, token) in float64 over the tokens that survive the cuts; the best score
is picked, ties go to the lowest id. At T = 0 the score is the logit. A pick is a function of its own row,
settings and position: batch mates change nothing. Logits are NumPy arrays or torch tensors (any float type;
computed as given, bfloat16 as float32).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import ModelError
from .arrays import NUMPY, is_tensor, torch_arrays
from .cuts import survivors
from .dense import greedy_dense, pick_dense
from .race import noisy_scores, winner
from .sampling import Sampling

__all__ = [
    "as_numpy",
    "log_probability",
    "pick",
    "pick_rows",
    "pick_rows_torch",
    "probabilities",
    "score_of",
    "scores",
]

_DENSE_PLAIN = 4096
_DENSE_CUT = 512
"""Up to so many tokens, without cuts and with them, computing every token of all rows at once is quicker than
finding out for each row which of them matter."""


def pick(logits: Any, sampling: Sampling, position: int) -> int:
    """The token for `position`, from the logits [V] before it; `ModelError` if those are broken."""
    if logits.ndim != 1:
        raise ModelError(f"logits of one row must be [vocabulary], not of shape {tuple(logits.shape)}")
    if (
        sampling.temperature == 0
        and isinstance(logits, np.ndarray)
        and logits.size
        and logits.dtype.kind == "f"
    ):
        best = int(logits.argmax())  # the first of equals; a drafter of tiny models does little else
        if math.isfinite(logits[best]):
            return best
    return int(pick_rows(logits[None], (sampling,), (position,))[0])


def pick_rows(logits: Any, samplings: Sequence[Sampling], positions: Sequence[int]) -> npt.NDArray[np.int64]:
    """The tokens for rows [R, V] of logits, each with its own settings and position; int64 [R].

    Tensors on a GPU are judged there; only the picks travel. Raises `ModelError` as `pick` does.
    """
    if logits.ndim != 2 or not logits.shape[0] == len(samplings) == len(positions):
        raise ModelError(
            f"logits must be [rows, vocabulary] with settings and position for each row, not of shape "
            f"{tuple(logits.shape)} with {len(samplings)} settings and {len(positions)} positions"
        )
    if not isinstance(logits, np.ndarray):
        if is_tensor(logits) and logits.device.type != "cpu":
            return pick_rows_torch(logits, samplings, positions)
        logits = as_numpy(logits)
    elif logits.dtype.kind != "f" or logits.dtype.itemsize < 4:
        logits = as_numpy(logits)
    plain: list[int] = []
    cut: list[int] = []
    for r, sampling in enumerate(samplings):
        if sampling.temperature != 0:
            (cut if sampling.has_cuts else plain).append(r)
    if len(plain) == len(samplings) and logits.shape[1] <= _DENSE_PLAIN:
        picks, sound = pick_dense(logits, samplings, positions, NUMPY)
        _check(sound)
        return np.asarray(picks, dtype=np.int64)
    picks = _greedy(logits)
    for group, most in ((plain, _DENSE_PLAIN), (cut, _DENSE_CUT)):
        if logits.shape[1] > most:
            for r in group:
                ids = survivors(logits[r], samplings[r]) if samplings[r].has_cuts else None
                picks[r] = winner(logits[r], ids, samplings[r], positions[r])
        elif group:
            picks[group], _ = pick_dense(
                logits[group], [samplings[r] for r in group], [positions[r] for r in group], NUMPY
            )
    return picks


def pick_rows_torch(
    logits: Any, samplings: Sequence[Sampling], positions: Sequence[int]
) -> npt.NDArray[np.int64]:
    """`pick_rows` computed in torch, on the tensor's own device. Same picks."""
    arrays = torch_arrays(logits.device)
    logits = logits.detach()
    if logits.element_size() < 4 or not logits.is_floating_point():
        logits = logits.float()
    picks, sound = greedy_dense(logits, arrays)
    drawn = [r for r, sampling in enumerate(samplings) if sampling.temperature != 0]
    if drawn:
        rows = logits if len(drawn) == len(samplings) else logits[drawn]
        picks[drawn], _ = pick_dense(
            rows, [samplings[r] for r in drawn], [positions[r] for r in drawn], arrays
        )
    _check(sound.cpu().numpy())
    found: npt.NDArray[np.int64] = picks.cpu().numpy()
    return found


def scores(
    logits: Any, sampling: Sampling, position: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Ids (ascending) and scores of the tokens of one row [V] that survive the cuts.

    The pick has the best score. At T = 0 scores are logits and nothing is cut.
    """
    row = _checked_row(logits)
    if sampling.is_greedy:
        ids = np.flatnonzero(row > -np.inf)
        return ids, row[ids].astype(np.float64)
    ids = survivors(row, sampling)
    return ids, noisy_scores(row, ids, sampling, position)


def score_of(
    logits: Any, sampling: Sampling, position: int, tokens: Sequence[int]
) -> npt.NDArray[np.float64]:
    """Scores of some tokens of one row [V]; -inf for tokens cut, and for ids outside the row."""
    row = _checked_row(logits)
    wanted = np.asarray(tokens, dtype=np.int64)
    found = np.full(wanted.shape, -np.inf)
    inside = (wanted >= 0) & (wanted < row.shape[0])
    if sampling.is_greedy:
        found[inside] = row[wanted[inside]]
        return found
    if sampling.has_cuts:
        inside &= np.isin(wanted, survivors(row, sampling), assume_unique=False)
    found[inside] = noisy_scores(row, wanted[inside], sampling, position)
    return found


def probabilities(logits: Any, sampling: Sampling) -> npt.NDArray[np.float64]:
    """What `pick` samples from, [V]: the softmax after the cuts; all on one token at T = 0."""
    row = _checked_row(logits)
    found = np.zeros(row.shape[0])
    if sampling.is_greedy:
        found[row.argmax()] = 1.0
        return found
    ids = survivors(row, sampling)
    values = row[ids].astype(np.float64)
    weight = np.exp((values - values.max()) / sampling.temperature)
    found[ids] = weight / weight.sum()
    return found


def log_probability(logits: Any, token: int) -> float:
    """Of one token of one row [V], as the model has it: no temperature, no cuts. At most 0."""
    row = _checked_row(logits).astype(np.float64)
    largest = row.max()
    return min(0.0, float(row[token] - largest - np.log(np.exp(row - largest).sum())))


def _greedy(logits: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """NumPy's argmax is the first, so the lowest, of equals; and it is a NaN where there is one."""
    if logits.shape[1] == 0:
        raise ModelError("logits of an empty vocabulary")
    picks: npt.NDArray[np.int64] = logits.argmax(axis=1)
    _check(logits[np.arange(len(picks)), picks])
    return picks


def _check(sound: npt.NDArray[Any]) -> None:
    if not all(map(math.isfinite, sound.tolist())):  # for a few rows, quicker than NumPy
        raise ModelError(
            "logits hold NaN or have no finite largest value: the model is broken, or masked everything"
        )


def _checked_row(logits: Any) -> npt.NDArray[Any]:
    row = as_numpy(logits)
    if row.ndim != 1:
        raise ModelError(f"logits of one row must be [vocabulary], not of shape {row.shape}")
    _greedy(row[None])
    return row


def as_numpy(logits: Any) -> npt.NDArray[Any]:
    """A NumPy array of at least float32; no copy of CPU tensors that already are."""
    if is_tensor(logits):
        if logits.element_size() < 4 or not logits.is_floating_point():
            logits = logits.float()
        logits = logits.detach().cpu().numpy()
    array = np.asarray(logits)
    if array.dtype.kind not in "fiu":
        raise ModelError(f"logits must be numbers, not {array.dtype}")
    if array.dtype.kind != "f" or array.dtype.itemsize < 4:
        array = array.astype(np.float32)
    return array
