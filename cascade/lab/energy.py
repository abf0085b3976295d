"""What work takes out of the battery: the processor's own counters where they may be read, else its time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from time import process_time

__all__ = ["Energy", "EnergyMeter"]

POWERCAP = Path("/sys/class/powercap")
"""Where Linux has the counters of Intel's and AMD's processors (RAPL); most let only root read them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Energy:
    """Of one piece of work."""

    joules: float
    is_measured: bool
    """By counters, of the whole processor; else processor time at a declared power."""


class EnergyMeter:
    """Reads files, so it is not for the event loop."""

    def __init__(self, *, watts: float, root: Path = POWERCAP) -> None:
        """`watts`: what the processor draws while it computes, where there are no counters."""
        self._watts = watts
        self._counters = [
            folder
            for folder in sorted(root.glob("intel-rapl:*"))
            if folder.name.count(":") == 1 and _read(folder / "energy_uj") is not None  # packages, not parts
        ]
        self.start()

    def start(self) -> None:
        """Count from now on."""
        self._before = self._values()
        self._cpu_before_s = process_time()

    def read(self) -> Energy:
        """Since the start."""
        now = self._values()
        if self._counters and None not in now and None not in self._before:
            micro = sum(
                after - before
                if after >= before
                else after - before + (_read(folder / "max_energy_range_uj") or 0)
                for folder, before, after in zip(self._counters, self._before, now, strict=True)
                if before is not None and after is not None
            )
            return Energy(joules=micro / 1e6, is_measured=True)
        return Energy(joules=self._watts * (process_time() - self._cpu_before_s), is_measured=False)

    def _values(self) -> list[int | None]:
        return [_read(folder / "energy_uj") for folder in self._counters]


def _read(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
