"""Figures on disk: what a benchmark returned, when, by which command, on what."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cascade.errors import SettingsError

__all__ = ["check_folder", "store"]

PACKAGES = ("numpy", "torch", "transformers", "aiohttp", "aiomqtt", "matplotlib")
"""Whose versions may matter, where they are installed."""


def check_folder(folder: Path) -> None:
    """Make it, or say why not; for those who have an hour's work to do before."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError("out", f"cannot make {folder}: {error.strerror}") from None
    if not os.access(folder, os.W_OK):
        raise SettingsError("out", f"cannot write to {folder}")


def store(report: Mapping[str, Any], folder: Path, *, options: Sequence[str]) -> Path:
    """Write `NAME.json` as a whole or not at all; returns where it is. With an option that asks for other
    figures it is `NAME-OPTION.json`."""
    others = [option.removeprefix("--") for option in options if option != "--quick"]
    path = folder / ("-".join([report["benchmark"], *others]) + ".json")
    content = {
        "benchmark": report["benchmark"],
        "command": " ".join(["cascade bench", report["benchmark"], *options]),
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "hardware": f"{report['machine']}, {_processor()}, {_memory()}",
        "versions": {"cascade": report["cascade"], "python": report["python"], **_versions()},
        "quick": report["quick"],
        "figures": report["figures"],
    }
    fresh = path.with_suffix(".json.new")
    fresh.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    fresh.replace(path)
    return path


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return (names or [platform.processor() or "unknown processor"])[0]


def _memory() -> str:
    try:
        num_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return "unknown memory"
    return f"{num_bytes / 2**30:.0f} GiB"


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
