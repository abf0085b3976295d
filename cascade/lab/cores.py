"""Processes with a core each: the edge as `cascade serve` runs it, and what else wants the device's core."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import CascadeError

__all__ = ["competitor", "pinned", "real_edge", "two_cores"]


def two_cores() -> tuple[int, int]:
    """One for the edge and one for the device."""
    if not hasattr(os, "sched_setaffinity"):
        raise CascadeError("this system does not pin processes to cores; measure on Linux")
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise CascadeError("edge and device want a core each, and this process may use only one")
    return cores[-1], cores[0]


@contextmanager
def pinned(core: int) -> Iterator[None]:
    """This process, and what it starts, on one core, with one thread to compute with."""
    import torch

    cores, num_threads = os.sched_getaffinity(0), torch.get_num_threads()
    os.sched_setaffinity(0, {core})
    torch.set_num_threads(1)
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)
        torch.set_num_threads(num_threads)


@contextmanager
def competitor(core: int) -> Iterator[None]:
    """Another process that never rests, on this core."""
    command = f"import os; os.sched_setaffinity(0, {{{core}}})\nwhile True: pass"
    with subprocess.Popen([sys.executable, "-c", command]) as process:
        try:
            yield
        finally:
            process.kill()


@contextmanager
def real_edge(model: str, dtype: str, core: int, *, is_exact: bool = False) -> Iterator[str]:
    """The address of an edge's link. It keeps nothing of a text that is over: each begins afresh."""
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "edge.toml"
        config.write_text("keep_kv_s = 0\n", encoding="utf-8")
        options = ["--model", model, "--dtype", dtype, "--threads", "1", "--http", "127.0.0.1:0", "--json"]
        options += ["--config", str(config), "--drain-seconds", "0"]
        options += ["--exact"] if is_exact else []
        command = [sys.executable, "-m", "cascade.cli", "serve", *options]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
            # Before it has other threads: those that it makes stay on the core of the first.
            os.sched_setaffinity(process.pid, {core})
            try:
                assert process.stdout is not None
                line = process.stdout.readline()
                if not line:
                    raise CascadeError(
                        f"the edge did not start; see what it says: cascade serve --model {model}"
                    )
                yield json.loads(line)["link"]
            finally:
                process.terminate()
