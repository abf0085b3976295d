"""The target while its draft is made: half a gigabyte and more that not every stage needs."""

from __future__ import annotations

from typing import Any

from ..huggingface import HuggingFaceModel
from ..loading import Source
from ..reading import read_module

__all__ = ["Target"]


class Target:
    """The target, in memory only from the first call of it until it is let go."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._model: HuggingFaceModel | None = None

    def __call__(self) -> HuggingFaceModel:
        if self._model is None:
            import torch

            # Exam and teacher are worth full precision, in which CPUs without bfloat16 are faster as well.
            dtype = "bfloat16" if torch.cuda.is_available() else "float32"
            self._model = HuggingFaceModel.load(self._source.folder, dtype=dtype)
        return self._model

    def let_go(self) -> None:
        self._model = None

    def module(self) -> Any:
        """The target as transformers has it, in float32."""
        import torch

        return read_module(self._source, torch.float32, "cpu")
