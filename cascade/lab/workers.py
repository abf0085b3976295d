"""Processes for work that fills a core each."""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor

__all__ = ["num_cores", "worker_pool"]


def num_cores() -> int:
    """Cores that this process may use; a container is often given fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def worker_pool(num_processes: int | None = None) -> ProcessPoolExecutor:
    """As many as there are cores, if nothing else is said.

    They are spawned, not forked: a fork has the caller's locks without the threads that hold them, and dies
    or hangs where the caller has threads, as torch and Ray make them.
    """
    return ProcessPoolExecutor(num_processes or num_cores(), mp_context=multiprocessing.get_context("spawn"))
