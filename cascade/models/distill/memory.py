"""Keeps glibc's heap from growing under large, short-lived arrays between small, long-lived ones."""

from __future__ import annotations

import ctypes
import sys

__all__ = ["return_large_blocks"]

M_MMAP_THRESHOLD = -3  # malloc.h
LARGE_BYTES = 1 << 20


def return_large_blocks() -> None:
    """From now on, blocks of a megabyte and more go straight back to the system when freed.

    By itself glibc raises that border as such blocks are freed, up to 32 MB, and then keeps them. The same as
    MALLOC_MMAP_THRESHOLD_=1048576 in the environment; nothing happens under other C libraries.
    """
    if sys.platform.startswith("linux"):
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            mallopt(M_MMAP_THRESHOLD, LARGE_BYTES)
