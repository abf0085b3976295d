"""The target while its draft is made: half a gigabyte and more that not every stage needs."""

from __future__ import annotations

from typing import Any

from ..huggingface import HuggingFaceModel
from ..loading import Source
from ..reading import read_module

__all__ = ["Target", "has_fast_bfloat16"]


def has_fast_bfloat16() -> bool:
    """Whether products in bfloat16 are the faster ones here: on GPUs, and on CPUs that have them built in."""
    import torch

    cpu: Any = torch.cpu
    return bool(torch.cuda.is_available() or cpu._is_amx_tile_supported() or cpu._is_avx512_bf16_supported())


class Target:
    """The target, in memory only from the first call of it until it is let go."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._model: HuggingFaceModel | None = None

    def __call__(self) -> HuggingFaceModel:
        if self._model is None:
            # As it is served; but where bfloat16 is emulated, full precision is several times as fast.
            dtype = "bfloat16" if has_fast_bfloat16() else "float32"
            self._model = HuggingFaceModel.load(self._source.folder, dtype=dtype)
        return self._model

    def let_go(self) -> None:
        self._model = None

    def module(self) -> Any:
        """The target as transformers has it, in float32."""
        import torch

        return read_module(self._source, torch.float32, "cpu")
