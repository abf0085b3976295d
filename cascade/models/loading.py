"""From what a user writes to a folder that can be loaded, with errors that say what to do.

A *reference* is a folder, a GGUF file, a bundled name or a hub id. Whatever it is, it ends as a folder with
`config.json` and safetensors, so that everything behind this module knows one form only.
"""

from __future__ import annotations

import difflib
import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ModelError
from .bundled import BUNDLED, SHIPPED, bundled_file
from .packed import SCALE
from .vocabulary import has_vocabulary_map

if TYPE_CHECKING:
    from .huggingface import HuggingFaceModel
    from .trimmed import TrimmedModel

__all__ = [
    "Source",
    "available_bytes",
    "check_memory",
    "check_same_vocabulary",
    "count_parameters",
    "open_model",
    "resolve",
]

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
NO_WEIGHTS = ("__metadata__", SCALE)
HUB_FILES = ["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt"]


@dataclass(frozen=True, slots=True)
class Source:
    """A loadable folder and the name to show for it."""

    name: str
    folder: Path


def resolve(ref: str | Path) -> Source:
    """Find the folder behind a reference. Converts a GGUF file once; downloads hub ids only."""
    text = str(ref)
    path = Path(text).expanduser()
    if text in SHIPPED and not path.exists():
        return Source(text, SHIPPED[text].folder)
    if text in BUNDLED and not path.exists():
        return Source(text, _from_gguf(bundled_file(text)))
    if path.is_dir():
        return _from_folder(path)
    if path.is_file():
        if path.suffix.lower() != ".gguf":
            raise ModelError(f"{path} is no model by itself; give its folder, or a .gguf file")
        return Source(path.stem, _from_gguf(path))
    looks_local = isinstance(ref, Path) or text.startswith((".", "/", "~")) or text.lower().endswith(".gguf")
    if looks_local or not HUB_ID.fullmatch(text):
        raise ModelError(f"no such file or folder: {path}")
    if "/" not in text:
        raise ModelError(f"no such model: {text!r} is no folder and no bundled name{_similar(text)}")
    return Source(text, _from_hub(text))


def open_model(
    ref: str | Path,
    *,
    dtype: str = "bfloat16",
    device: str = "auto",
    exact: bool = False,
    num_threads: int | None = None,
) -> HuggingFaceModel | TrimmedModel:
    """Load whatever a reference leads to; a draft with a vocabulary of its own speaks its target's.

    The options are those of `HuggingFaceModel.load`.
    """
    from .huggingface import HuggingFaceModel
    from .trimmed import TrimmedModel

    kind = TrimmedModel if has_vocabulary_map(resolve(ref).folder) else HuggingFaceModel
    return kind.load(ref, dtype=dtype, device=device, exact=exact, num_threads=num_threads)


def check_memory(folder: Path, dtype: str, *, on_cpu: bool = True) -> None:
    """Refuse before loading when the weights cannot fit. Quantised models hold bfloat16, too."""
    if not on_cpu:
        return
    per_parameter = {"float32": 4.0, "int8": 3.0, "int4": 2.75}.get(dtype, 2.0)
    needed = int(count_parameters(folder) * per_parameter * 1.1)
    available = available_bytes()
    if available is not None and needed > available:
        smaller = " Try dtype bfloat16, or a smaller model." if per_parameter > 2 else " Try a smaller model."
        raise ModelError(
            f"{folder.name} needs about {needed / 1e9:.1f} GB to load as {dtype}, "
            f"but {available / 1e9:.1f} GB are available.{smaller}"
        )


def count_parameters(folder: Path) -> int:
    """Weights in the folder's safetensors files, read from their headers; the scales of packed ones apart."""
    total = 0
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with path.open("rb") as file:
                header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        except (OSError, ValueError, OverflowError, MemoryError) as error:
            raise ModelError(f"{path} is no safetensors file: {error}; download it again") from error
        total += sum(
            math.prod(entry["shape"]) for key, entry in header.items() if not key.endswith(NO_WEIGHTS)
        )
    return total


def available_bytes() -> int | None:
    """Memory that can still be had, containers' limits included; None where the system does not say."""
    free: list[int] = []
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                free.append(int(line.split()[1]) * 1024)
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        if limit != "max":
            free.append(int(limit) - int(Path("/sys/fs/cgroup/memory.current").read_text()))
    except (OSError, ValueError):
        pass
    return min(free) if free else None


def check_same_vocabulary(target: Any, draft: Any) -> None:
    """Refuse a pair whose token ids mean different text."""
    if target.vocab_fingerprint != draft.vocab_fingerprint:
        raise ModelError(
            f"vocabulary mismatch: the target's is {target.vocab_fingerprint} ({target.vocab_size} tokens), "
            f"the draft's {draft.vocab_fingerprint} ({draft.vocab_size}); use a draft made for this target"
        )


def _from_folder(folder: Path) -> Source:
    if (folder / "config.json").is_file():
        if not any(folder.glob("*.safetensors")):
            raise ModelError(
                f"{folder} has a config.json but no .safetensors weights (pickled weights are not read); "
                "save the model again with save_pretrained"
            )
        return Source(folder.name, folder)
    ggufs = sorted(folder.glob("*.gguf"))
    if len(ggufs) == 1:
        return Source(ggufs[0].stem, _from_gguf(ggufs[0]))
    if ggufs:
        raise ModelError(f"{folder} holds several GGUF files; name one: {', '.join(p.name for p in ggufs)}")
    raise ModelError(f"{folder} holds no model: neither config.json nor a .gguf file")


def _from_gguf(path: Path) -> Path:
    from .gguf import converted

    return converted(path)


def _from_hub(name: str) -> Path:
    try:
        from huggingface_hub import errors, snapshot_download
    except ImportError as error:
        raise ModelError(
            f"loading {name} needs huggingface_hub: pip install 'cascade-edge[models]'"
        ) from error
    try:
        folder = Path(snapshot_download(name, allow_patterns=HUB_FILES))
    except (errors.GatedRepoError, errors.RepositoryNotFoundError) as error:
        raise ModelError(
            f"no such model on the hub, or no access to it: {name}. "
            "Check the spelling; for gated models log in with: hf auth login"
        ) from error
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as error:
        raise ModelError(
            f"no network to fetch {name}, and it is not in the local hub cache; "
            "fetch it where there is one and give its folder"
        ) from error
    except Exception as error:
        raise ModelError(f"could not fetch {name} from the hub: {error}") from error
    return _from_folder(folder).folder


def _similar(name: str) -> str:
    bundled = sorted([*BUNDLED, *SHIPPED])
    close = difflib.get_close_matches(name, bundled, n=1, cutoff=0.5)
    hint = f"; did you mean {close[0]}?" if close else f"; bundled: {', '.join(bundled)}."
    return hint + " A hub id has the form owner/name"
