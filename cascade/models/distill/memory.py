"""What glibc does with large blocks: given back at once, or kept for the next one."""

from __future__ import annotations

import ctypes
import sys

__all__ = ["keep_large_blocks", "return_large_blocks"]

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h
LARGE_BYTES = 1 << 20
LARGEST_BYTES = 32 << 20
"""More than this glibc takes from the system each time, whatever it is told."""


def return_large_blocks() -> None:
    """From now on, blocks of a megabyte and more go straight back to the system when freed.

    By itself glibc raises that border as such blocks are freed, up to 32 MB, and then keeps them. The same as
    MALLOC_MMAP_THRESHOLD_=1048576 in the environment; nothing happens under other C libraries.
    """
    _set(M_MMAP_THRESHOLD, LARGE_BYTES)


def keep_large_blocks() -> None:
    """From now on, freed blocks stay for the next one of their kind.

    Training asks for the same large blocks at every step, and fetching their pages afresh takes a good part
    of its time.
    """
    _set(M_MMAP_THRESHOLD, LARGEST_BYTES)
    _set(M_TRIM_THRESHOLD, 2**31 - 1)


def _set(option: int, value: int) -> None:
    if sys.platform.startswith("linux"):
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            mallopt(option, value)
