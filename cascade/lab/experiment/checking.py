"""Are a run's figures those of its lines? Recomputed from what is on disk, line by line."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from .measured import figures_of
from .settings import PriceSettings
from .store import Run, Store, digest_of

__all__ = ["check_folder", "check_run"]

KINDS = ("tokens", "streams", "steps", "messages", "control")


def check_folder(folder: Path) -> list[str]:
    """What is wrong with the runs in a folder; nothing, where all is well."""
    return [f"{run.folder.name}: {fault}" for run in Store(folder).runs() for fault in check_run(run)]


def check_run(run: Run) -> list[str]:
    """Figures, order and completeness of positions, and bytes."""
    lines = {kind: run.lines(kind) for kind in KINDS if (run.folder / f"{kind}.jsonl").is_file()}
    if "tokens" not in lines:
        return []  # this experiment keeps figures only
    faults = []
    prices = PriceSettings(
        **{name: run.settings[f"prices.{name}"] for name in PriceSettings.__dataclass_fields__}
    )
    again = figures_of(lines["streams"], lines["tokens"], lines["steps"], prices=prices)
    for name, value in run.figures.items():
        if not math.isclose(again[name], value, rel_tol=1e-9, abs_tol=1e-9):
            faults.append(f"{name} is {value}, its lines say {again[name]}")
    for stream in lines["streams"]:
        positions = [
            token["position"]
            for token in lines["tokens"]
            if (token["device"], token["stream"]) == (stream["device"], stream["stream"])
        ]
        if positions != list(range(positions[0], positions[0] + stream["num_tokens"])):
            faults.append(f"{stream['device']}, stream {stream['stream']}: not every position once, in order")
    if "messages" in lines:
        if digest_of(lines) != run.digest:
            faults.append("its lines are not those it was made with: the digest differs")
        faults += _byte_faults(lines["streams"], lines["messages"])
    return faults


def _byte_faults(streams: list[dict[str, Any]], messages: list[dict[str, Any]]) -> list[str]:
    """Hints and commits on the links against what the devices counted.

    What moves when a stream is over is no longer counted by it, so the links may say a little more.
    """
    faults = []
    for way, kind in (("up", "hint"), ("down", "commit")):
        counted = sum(stream[f"bytes_{way}"] for stream in streams)
        sent = sum(line["bytes"] for line in messages if (line["way"], line["kind"]) == (way, kind))
        if counted > sent:
            faults.append(f"{kind}s {way}: {counted} bytes counted, {sent} on the links")
    return faults
