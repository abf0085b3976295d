"""What holds for every test: needs are visible, and library code never blocks the loop."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest
from blockbuster import BlockBuster, blockbuster_ctx

PROGRAMS = {
    "needs_mosquitto": ("mosquitto",),
    "needs_chromium": ("chromium", "chromium-browser", "google-chrome"),
}
"""Marker -> system programs, of which one must be there."""

SEARCH_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin"])
"""Debian keeps servers in sbin, which is not on a user's path."""


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs a missing program, visibly; in CI everything must be there, so fail."""
    for marker, programs in PROGRAMS.items():
        if item.get_closest_marker(marker) is None:
            continue
        if any(shutil.which(program, path=SEARCH_PATH) for program in programs):
            continue
        reason = f"{programs[0]} is not installed"
        if os.environ.get("CI", "").lower() in ("1", "true"):
            pytest.fail(f"{reason}, and in CI it must be (.ci/run installs it)", pytrace=False)
        pytest.skip(f"{reason}; on Debian: apt-get install {programs[0]}")


@pytest.fixture(autouse=True, scope="session")
def _data_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing of a test stays in the user's own data folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CASCADE_DATA", str(tmp_path_factory.mktemp("data")))
        yield


@pytest.fixture(autouse=True)
def _no_blocking_calls() -> Iterator[BlockBuster]:
    """A call in `cascade` that would block a running event loop raises."""
    with blockbuster_ctx("cascade") as blockbuster:
        yield blockbuster
