"""Decoding in plain Python (`tools/decoding_vectors.py`), as a module that tests can import."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

__all__ = ["reference"]


def _load() -> Any:
    path = Path(__file__).parents[3] / "tools/decoding_vectors.py"
    spec = importlib.util.spec_from_file_location("decoding_vectors", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


reference: Any = _load()
