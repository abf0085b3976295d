"""Noise that device and edge share without sending it: g(seed, position, token).

All of it is 32-bit unsigned arithmetic that wraps, up to the last two logarithms, so that C (`uint32_t`) and
JavaScript (`Math.imul`, `>>> 0`) give the same integers:

    mix(x):    x ^= x >> 16;  x *= 0x7FEB352D;  x ^= x >> 15;  x *= 0x846CA68B;  x ^= x >> 16   (lowbias32)

    lo, hi   = low and high half of the 64-bit seed                                       per seed
    s0       = mix(mix(lo ^ 0x9E3779B9) ^ hi)
    s1       = mix(mix(hi ^ 0x85EBCA6B) ^ lo)
    k0       = mix(s0 ^ position)                                                         per position
    k1       = mix(s1 ^ k0) | 1
    h        = mix((mix(token) ^ k0) * k1)                                                per token
    u        = (h + 0.5) / 2^32                                        in (0, 1), exact in a double
    gumbel   = -log(-log(u)), in a double, rounded to a multiple of 2^-24 (halves to even)

The mixer is a bijection, so for one seed no two positions share a key, and at one position no two tokens
share a hash. The random odd factor k1 makes the difference of two tokens' hashes depend on the position.
mix(token) is a table. The rounding hides what one library's logarithm differs from another's in the last bit.

Position is the token's absolute place in the text, prompt included: it names the token whatever step, hint or
edge it comes from. The noise is Gumbel's, so argmax(logit / T + g) is a sample of the softmax; two models
that share it agree with probability at least (1 - TV) / (1 + TV) (Daliri, Musco, Suresh, arXiv 2408.07978).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from .arrays import MASK, NUMPY, Arrays, MixConstants, TorchArrays, is_tensor, load_torch, torch_arrays

__all__ = ["gumbel", "gumbel_of_hash", "hash_of_lanes", "hash_u32", "key_of", "keys_of", "token_lanes"]

_PLAIN = TorchArrays.mix
"""Python's integers want the same mask as torch's."""
_FEW_ROWS = 24
"""So many keys are quicker one by one."""


def hash_u32(seed: int, position: Any, token: Any) -> Any:
    """The hash of (seed, position, token); positions and tokens broadcast.

    A uint32 array; an int64 tensor where `token` is a torch tensor. Numbers count modulo 2^64 (seed) and 2^32
    (the others).
    """
    arrays, positions, tokens = _as_lanes(position, token)
    shape = tokens.shape
    positions, tokens = positions.reshape(-1), tokens.reshape(-1)  # 0-d results would be scalars, which warn
    k0, k1 = _position_key(*_seed_key(seed), positions, arrays.mix)
    return hash_of_lanes(_mix(tokens, arrays.mix), k0, k1, arrays).reshape(shape)


def gumbel(seed: int, position: Any, tokens: Any) -> Any:
    """Standard Gumbel noise, float64 in multiples of 2^-24, of what `hash_u32` broadcasts to."""
    arrays = torch_arrays(tokens.device) if is_tensor(tokens) else NUMPY
    return gumbel_of_hash(hash_u32(seed, position, tokens), arrays)


@lru_cache(maxsize=8192)  # the same positions are asked for by draft, edge and scores
def key_of(seed: int, position: int) -> tuple[int, int]:
    """k0 and k1: what the tokens of one position have in common."""
    k0, k1 = _position_key(*_seed_key(seed), position & MASK, _PLAIN)
    return k0, k1


def keys_of(seeds: Sequence[int], positions: Sequence[int]) -> tuple[Sequence[int], Sequence[int]]:
    """k0 and k1 of many rows."""
    if len(seeds) <= _FEW_ROWS:
        keys = [key_of(seed, position) for seed, position in zip(seeds, positions, strict=True)]
        return [k0 for k0, _ in keys], [k1 for _, k1 in keys]
    seed_lanes = np.array(seeds, dtype=np.uint64)
    lo, hi = (seed_lanes & MASK).astype(np.uint32), (seed_lanes >> 32).astype(np.uint32)
    position_lanes = np.array(positions, dtype=np.int64).astype(np.uint32)
    k0, k1 = _position_key(*_seed_lanes(lo, hi, NUMPY.mix), position_lanes, NUMPY.mix)
    return k0.tolist(), k1.tolist()


@lru_cache(maxsize=16)
def token_lanes(vocab_size: int, arrays: Arrays = NUMPY) -> Any:
    """mix(token) of a whole vocabulary; made once, not to be written to."""
    return _mix(arrays.tokens(vocab_size), arrays.mix)


def hash_of_lanes(lanes: Any, k0: Any, k1: Any, arrays: Arrays) -> Any:
    """h from mix(token) and the position's key, lanes all of them; keys may be columns."""
    x = lanes ^ k0
    x *= k1
    if arrays.mix.mask is not None:
        x &= arrays.mix.mask
    return _mix(x, arrays.mix)


def gumbel_of_hash(h: Any, arrays: Arrays) -> Any:
    """h -> rounded Gumbel noise."""
    u = arrays.floats(h)
    u += 0.5  # 33 bits: exact
    u *= 2.0**-32
    g = arrays.log(-arrays.log(u))
    g *= -(2.0**24)
    g = arrays.rint(g)
    g *= 2.0**-24
    return g


def _mix(x: Any, c: MixConstants) -> Any:
    """Wellons' lowbias32. Writes into `x` where that is an array."""
    shift_16, shift_15, odd_a, odd_b, mask = c
    x ^= x >> shift_16
    x *= odd_a
    if mask is not None:
        x &= mask
    x ^= x >> shift_15
    x *= odd_b
    if mask is not None:
        x &= mask
    x ^= x >> shift_16
    return x


@lru_cache(maxsize=4096)
def _seed_key(seed: int) -> tuple[int, int]:
    s0, s1 = _seed_lanes(seed & MASK, seed >> 32 & MASK, _PLAIN)
    return s0, s1


def _seed_lanes(lo: Any, hi: Any, c: MixConstants) -> tuple[Any, Any]:
    """s0, s1."""
    return _mix(_mix(lo ^ 0x9E3779B9, c) ^ hi, c), _mix(_mix(hi ^ 0x85EBCA6B, c) ^ lo, c)


def _position_key(s0: Any, s1: Any, position: Any, c: MixConstants) -> tuple[Any, Any]:
    """k0, k1."""
    k0 = _mix(position ^ s0, c)
    return k0, _mix(k0 ^ s1, c) | 1


def _as_lanes(position: Any, token: Any) -> tuple[Arrays, Any, Any]:
    """Fresh, broadcast 32-bit lanes."""
    if is_tensor(token):
        torch = load_torch()
        positions = torch.as_tensor(position, dtype=torch.int64, device=token.device) & MASK
        both = torch.broadcast_tensors(positions, token.to(torch.int64) & MASK)
        return torch_arrays(token.device), both[0].clone(), both[1].clone()
    # int64 first: NumPy refuses to make a uint32 of a Python integer that does not fit, but wraps an array's.
    lanes = (np.asarray(x).astype(np.int64).astype(np.uint32) for x in (position, token))
    positions, tokens = np.broadcast_arrays(*lanes)
    return NUMPY, positions.copy(), tokens.copy()
