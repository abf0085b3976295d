"""A runner that notes what its steps take, and an edge of its own process and core that has one.

python -m cascade.lab.watched MODEL DTYPE FILE

is that edge: what `cascade serve` runs, alone on one thread, with a line in FILE for every pass. It ends when
its standard input does.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TypeVar

from ..edge import BatchEngine, EdgeSettings
from ..errors import CascadeError
from ..models.runner import Runner, ThreadRunner

__all__ = ["Step", "WatchedEdge", "WatchedRunner", "watched_edge"]

T = TypeVar("T")


class Step(NamedTuple):
    """Of a model. Processes of one machine share the clock."""

    began_s: float
    seconds: float
    """The way to the model's thread and back included."""
    rows: int


class WatchedRunner:
    """Another runner, whose steps are noted."""

    def __init__(self, inner: Runner, note: Callable[[Step], None]) -> None:
        self._inner = inner
        self._note = note

    async def run(self, work: Callable[[], T], *, rows: int) -> T:
        now_s = asyncio.get_running_loop().time
        began_s = now_s()
        result = await self._inner.run(work, rows=rows)
        self._note(Step(began_s, now_s() - began_s, rows))
        return result

    def close(self) -> None:
        self._inner.close()


class WatchedEdge:
    """An edge in another process."""

    def __init__(self, url: str, notes: Path) -> None:
        self.url = url
        """Where devices dial."""
        self._notes = notes

    def passes(self) -> list[Step]:
        """All so far."""
        whole, _, _ = self._notes.read_text(encoding="ascii").rpartition("\n")  # it may be writing the last
        return [_read(line) for line in whole.splitlines()]


@contextmanager
def watched_edge(model: str, dtype: str, core: int) -> Iterator[WatchedEdge]:
    """It keeps nothing of a text that is over: each begins afresh."""
    with tempfile.TemporaryDirectory() as folder:
        notes = Path(folder) / "passes"
        command = [sys.executable, "-m", __name__, model, dtype, str(notes)]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL) as process:
            # Before it has other threads: those that it makes stay on the core of the first.
            os.sched_setaffinity(process.pid, {core})
            try:
                assert process.stdout is not None
                url = process.stdout.readline().decode().strip()
                if not url:
                    hint = f"cascade serve --model {model} --dtype {dtype}"
                    raise CascadeError(f"the edge did not start; see what it says: {hint}")
                yield WatchedEdge(url, notes)
            finally:
                process.communicate()


def _read(line: str) -> Step:
    began_s, seconds, rows = line.split()
    return Step(float(began_s), float(seconds), int(rows))


async def _serve(engine: Callable[[], BatchEngine], settings: EdgeSettings) -> None:
    from ..apps.serving import ServeOptions, Serving

    async with Serving(engine(), ServeOptions(port=0, drain_s=0.0, edge=settings)) as serving:
        sys.stdout.write(f"{serving.link_url}\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.read)


def _main(arguments: Sequence[str]) -> None:
    from ..models.huggingface import HuggingFaceModel
    from ..models.loading import open_model
    from ..models.tuning import tune

    ref, dtype, notes = arguments
    model = open_model(ref, dtype=dtype, device="cpu", num_threads=1)
    if isinstance(model, HuggingFaceModel):
        with asyncio.Runner() as runner:
            tune(model, runner.get_loop().time, num_threads=1)
    settings = EdgeSettings(keep_kv_s=0.0)
    with Path(notes).open("w", encoding="ascii", buffering=1) as file:

        def note(step: Step) -> None:
            file.write(f"{step.began_s:.6f} {step.seconds:.6f} {step.rows}\n")

        asyncio.run(
            _serve(lambda: BatchEngine(model, WatchedRunner(ThreadRunner(), note), settings), settings)
        )


if __name__ == "__main__":
    _main(sys.argv[1:])
