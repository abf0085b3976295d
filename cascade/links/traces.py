"""Recorded rates: how fast a real link was, millisecond by millisecond, replayed.

Three formats are known, and told apart by their content:

    one column     mahimahi: an integer millisecond a line, each a chance to send 1,500 bytes
    two columns    "cooked": seconds and Mbit/s; the rate held since the line before
    six columns    the Norwegian 3G and Ghent 4G logs: ... bytes and milliseconds since the line before

A trace says rates, no delays. It begins with the link, and wraps around at its end.
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Protocol

from ..errors import SettingsError

__all__ = ["CHANCE_BYTES", "ChanceTrace", "RateTrace", "Trace", "Wire", "load_trace", "read_trace"]

CHANCE_BYTES = 1500
MAX_FILE_BYTES = 256 << 20
BYTES_PER_MBIT = 125_000


class Wire(Protocol):
    """Puts bytes on the link one after the other. Starts never go back."""

    def finish_s(self, start_s: float, num_bytes: int) -> float:
        """When bytes that may start then are all through, behind those that went before."""
        ...


class Trace(Protocol):
    """A recorded rate."""

    @property
    def duration_s(self) -> float:
        """Afterwards it begins anew."""
        ...

    @property
    def mean_rate_bytes_per_s(self) -> float: ...

    def bytes_by(self, now_s: float) -> float:
        """Bytes that a sender with always more to say got through since time 0."""
        ...

    def wire(self) -> Wire:
        """A sender that begins at time 0."""
        ...


class ChanceTrace:
    """Mahimahi's: moments at which up to 1,500 bytes pass. What a chance is not used for is lost."""

    def __init__(self, times_ms: Sequence[int]) -> None:
        if not times_ms or times_ms[-1] <= 0:
            raise SettingsError("trace", "needs chances, and the last one after 0 ms")
        self._times_ms = tuple(times_ms)

    @property
    def duration_s(self) -> float:
        return self._times_ms[-1] / 1000

    @property
    def mean_rate_bytes_per_s(self) -> float:
        return len(self._times_ms) * CHANCE_BYTES / self.duration_s

    def bytes_by(self, now_s: float) -> float:
        return self.first_at(now_s + 1e-9) * CHANCE_BYTES  # those at this very time included

    def wire(self) -> Wire:
        return _ChanceWire(self)

    def time_s(self, index: int) -> float:
        """When a chance comes; they are counted through all rounds."""
        num_rounds, place = divmod(index, len(self._times_ms))
        return (num_rounds * self._times_ms[-1] + self._times_ms[place]) / 1000

    def first_at(self, now_s: float) -> int:
        """The first chance that comes at this time or later."""
        now_ms = now_s * 1000 - 1e-7  # a time that went through a division still means its millisecond
        num_rounds = max(0, math.floor(now_ms / self._times_ms[-1]))
        place = bisect_left(self._times_ms, now_ms - num_rounds * self._times_ms[-1])
        return num_rounds * len(self._times_ms) + place


class _ChanceWire:
    def __init__(self, trace: ChanceTrace) -> None:
        self._trace = trace
        self._index = 0
        self._left_bytes = CHANCE_BYTES
        """Of the chance that is being used."""

    def finish_s(self, start_s: float, num_bytes: int) -> float:
        if num_bytes == 0:
            return start_s
        first = self._trace.first_at(start_s)
        if first > self._index:
            self._index, self._left_bytes = first, CHANCE_BYTES
        missing_bytes = num_bytes - self._left_bytes
        if missing_bytes > 0:
            num_more = math.ceil(missing_bytes / CHANCE_BYTES)
            self._index += num_more
            self._left_bytes = num_more * CHANCE_BYTES - missing_bytes
        else:
            self._left_bytes = -missing_bytes
        finish_s = self._trace.time_s(self._index)
        if self._left_bytes == 0:
            self._index, self._left_bytes = self._index + 1, CHANCE_BYTES
        return max(start_s, finish_s)


class RateTrace:
    """Rates, each for its time."""

    def __init__(self, steps: Iterable[tuple[float, float]]) -> None:
        """Steps are (duration in s, bytes/s)."""
        steps = tuple(steps)
        self._rates = tuple(rate for _, rate in steps)
        self._ends_s = tuple(itertools.accumulate(duration_s for duration_s, _ in steps))
        self._ends_bytes = tuple(itertools.accumulate(duration_s * rate for duration_s, rate in steps))
        if self._ends_bytes[-1] <= 0:
            raise SettingsError("trace", "carries nothing: every rate is 0")

    @property
    def duration_s(self) -> float:
        return self._ends_s[-1]

    @property
    def mean_rate_bytes_per_s(self) -> float:
        return self._ends_bytes[-1] / self._ends_s[-1]

    def bytes_by(self, now_s: float) -> float:
        num_rounds, rest_s = divmod(max(now_s, 0.0), self._ends_s[-1])
        step = min(bisect_right(self._ends_s, rest_s), len(self._rates) - 1)
        started_s = self._ends_s[step - 1] if step else 0.0
        before = self._ends_bytes[step - 1] if step else 0.0
        return num_rounds * self._ends_bytes[-1] + before + (rest_s - started_s) * self._rates[step]

    def time_s(self, num_bytes: float) -> float:
        """When so many bytes are through, at the earliest."""
        num_rounds, rest = divmod(num_bytes, self._ends_bytes[-1])
        if rest == 0 and num_rounds > 0:
            num_rounds, rest = num_rounds - 1, self._ends_bytes[-1]
        step = bisect_left(self._ends_bytes, rest)
        started_s = self._ends_s[step - 1] if step else 0.0
        before = self._ends_bytes[step - 1] if step else 0.0
        within_s = (rest - before) / self._rates[step] if rest > before else 0.0
        return num_rounds * self._ends_s[-1] + started_s + within_s

    def wire(self) -> Wire:
        return _RateWire(self)


class _RateWire:
    """Stands in the trace by bytes, not by time: so steps without any rate need no special case."""

    def __init__(self, trace: RateTrace) -> None:
        self._trace = trace
        self._position = 0.0

    def finish_s(self, start_s: float, num_bytes: int) -> float:
        self._position = max(self._position, self._trace.bytes_by(start_s)) + num_bytes
        return max(start_s, self._trace.time_s(self._position))


def load_trace(path: str | Path) -> Trace:
    """Read a trace from a file, whatever its format."""
    path = Path(path)
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise SettingsError("trace", f"{path} is larger than {MAX_FILE_BYTES >> 20} MiB; cut a part out")
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise SettingsError("trace", f"{path} is not text; see docs/links.md for the formats") from None
    except OSError as error:
        raise SettingsError("trace", f"cannot read {path}: {error.strerror}") from None
    return read_trace(text.splitlines(), name=str(path))


def read_trace(lines: Iterable[str], *, name: str = "trace") -> Trace:
    """Read a trace; errors name the line. Empty lines and those that begin with # are skipped."""
    rows = [
        (number, line.split())
        for number, line in enumerate(lines, start=1)
        if line.strip() and not line.lstrip().startswith("#")
    ]
    if not rows:
        raise SettingsError("trace", f"{name} is empty")
    first_number, first = rows[0]
    read = _READERS.get(len(first))
    if read is None:
        reason = f"{len(first)} columns; one is mahimahi, two are cooked, six are a 3G or 4G log"
        raise _fault(name, first_number, reason)
    for number, row in rows:
        if len(row) != len(first):
            raise _fault(name, number, f"{len(row)} columns, where the first line has {len(first)}")
    try:
        return read(name, rows)
    except SettingsError as error:
        if error.reason.startswith(name):
            raise
        raise SettingsError("trace", f"{name} {error.reason}") from None


Rows = list[tuple[int, list[str]]]


def _read_mahimahi(name: str, rows: Rows) -> Trace:
    times_ms: list[int] = []
    for number, (text,) in rows:
        time_ms = int(_number(name, number, text, whole=True))
        if times_ms and time_ms < times_ms[-1]:
            raise _fault(name, number, f"{time_ms} ms after {times_ms[-1]} ms; times must not go back")
        times_ms.append(time_ms)
    return ChanceTrace(times_ms)


def _read_cooked(name: str, rows: Rows) -> Trace:
    """As Pensieve reads them: the first line only says when the trace begins."""
    steps: list[tuple[float, float]] = []
    before_s: float | None = None
    for number, (seconds, mbit_per_s) in rows:
        now_s, rate = _number(name, number, seconds), _number(name, number, mbit_per_s)
        if before_s is not None:
            if now_s <= before_s:
                raise _fault(name, number, f"{now_s:g} s after {before_s:g} s; times must grow")
            steps.append((now_s - before_s, rate * BYTES_PER_MBIT))
        before_s = now_s
    if not steps:
        raise _fault(name, rows[0][0], "one line only; a rate holds between two lines")
    return RateTrace(steps)


def _read_log(name: str, rows: Rows) -> Trace:
    steps: list[tuple[float, float]] = []
    for number, row in rows:
        num_bytes, elapsed_ms = _number(name, number, row[4]), _number(name, number, row[5])
        if elapsed_ms == 0:
            raise _fault(name, number, "0 ms since the line before; the last column must be above 0")
        steps.append((elapsed_ms / 1000, num_bytes / (elapsed_ms / 1000)))
    return RateTrace(steps)


_READERS: dict[int, Callable[[str, Rows], Trace]] = {1: _read_mahimahi, 2: _read_cooked, 6: _read_log}


def _number(name: str, line: int, text: str, *, whole: bool = False) -> float:
    try:
        value = int(text) if whole else float(text)
    except ValueError:
        raise _fault(name, line, f"{text[:32]!r} is no {'integer' if whole else 'number'}") from None
    if not math.isfinite(value) or value < 0:
        raise _fault(name, line, f"{text[:32]} is not a time or an amount; both are finite and not below 0")
    return value


def _fault(name: str, line: int, reason: str) -> SettingsError:
    return SettingsError("trace", f"{name}:{line}: {reason}")
