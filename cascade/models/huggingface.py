"""Any decoder of the transformers library as a `LanguageModel`: ragged batches, our own cache.

What cannot run this way is refused when it is loaded, by name and with the reason: the model is run once as
transformers runs it and once through this module, and the two must agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ContextExceeded, ModelError
from ..settings import check_choice
from .base import Feed, TokenSequence
from .exact import TILE_ROWS, ExactPlan, float32_head, tiles
from .fitness import context_length, inspect, numerics_class, verify
from .kv import KVSequence, KVStore, LayerShape
from .lean import LeanDecoder
from .linear import ByWidth
from .quantized import quantize
from .ragged import ATTENTION_NAME, Attender, Plan, Span, bucket, register

if TYPE_CHECKING:
    import torch

    from .text import TextTokenizer

__all__ = ["DTYPES", "HuggingFaceModel"]

DTYPES = ("float32", "bfloat16", "float16", "int8", "int4")


class HuggingFaceModel:
    """A causal language model of the transformers library.

    Plain synchronous code without shared state between passes: one thread at a time may use a sequence, but
    different threads may run passes over different sequences.
    """

    def __init__(
        self,
        module: Any,
        *,
        name: str = "",
        tokenizer: TextTokenizer | None = None,
        dtype: str | None = None,
        exact: bool = False,
        lean: bool = True,
    ) -> None:
        """Wrap a loaded `...ForCausalLM` module, which must not be used by anybody else afterwards.

        `lean` may take the weights out of it and run them in a loop of our own (see `lean.py`).
        """
        register()
        self.name = name or type(module).__name__
        self.tokenizer = tokenizer
        self.dtype = dtype or str(module.dtype).removeprefix("torch.")
        self.exact = exact
        check_choice("dtype", self.dtype, DTYPES)
        self._module: Any = module.eval().requires_grad_(False)
        self._lean: LeanDecoder | None = None
        self._device: torch.device = module.device
        config = module.config.get_text_config()
        self._vocab_size = int(module.get_input_embeddings().weight.shape[0])
        if tokenizer is not None and tokenizer.vocab_size > self._vocab_size:
            raise ModelError(
                f"{self.name}: vocabulary mismatch, the tokenizer has {tokenizer.vocab_size} tokens and the "
                f"weights {self._vocab_size}; the folder mixes two models"
            )
        stock = inspect(self._module, self.name, self._vocab_size)
        self._context_length = context_length(config)
        module.set_attn_implementation(ATTENTION_NAME)
        self._store = KVStore(stock.shapes, module.dtype, self._device, self._context_length)
        self._numerics = numerics_class(self._module, self.dtype, exact=exact)
        self._eos_ids = _eos_ids(module, tokenizer)
        if lean and LeanDecoder.can_take(module):
            self._lean = LeanDecoder(module, stock.windows)
        verify(self, stock)
        if exact:
            self._lean.widen_head() if self._lean else float32_head(self._module)
        self._by_width: list[ByWidth] = []
        if self._lean is not None and not exact:
            self._by_width = self._lean.put_into(self.dtype)
        elif self.dtype in ("int8", "int4"):
            self._by_width = quantize(self._module, self.dtype)

    @classmethod
    def load(
        cls,
        ref: str | Path,
        *,
        dtype: str = "bfloat16",
        device: str = "auto",
        exact: bool = False,
        num_threads: int | None = None,
    ) -> HuggingFaceModel:
        """Load a folder, a GGUF file, a bundled name or a hub id.

        dtype is one of DTYPES, where int8 and int4 quantise the weights only and run on a CPU; device is
        "auto" (CUDA if there is one), "cpu" or "cuda". `num_threads` is set for the whole process, as torch
        knows no other way.
        """
        check_choice("dtype", dtype, DTYPES)
        if exact and dtype not in ("float32", "bfloat16"):
            raise ModelError(f"exact mode runs in float32 or bfloat16, not {dtype}")
        from .loading import check_memory, resolve
        from .reading import read_module, read_tokenizer

        source = resolve(ref)
        import torch

        if device == "auto":
            device = "cuda" if torch.cuda.is_available() and dtype not in ("int8", "int4") else "cpu"
        if device != "cpu" and dtype in ("int8", "int4"):
            raise ModelError(f"{dtype} runs on a CPU only; take bfloat16 on {device}")
        if num_threads is not None:
            torch.set_num_threads(num_threads)
        check_memory(source.folder, dtype, on_cpu=device == "cpu")
        wanted = getattr(torch, dtype if dtype.startswith(("float", "bfloat")) else "bfloat16")
        module = read_module(source, wanted, device)
        return cls(module, name=source.name, tokenizer=read_tokenizer(source), dtype=dtype, exact=exact)

    def __repr__(self) -> str:
        return f"<HuggingFaceModel {self.name} {self.dtype}>"

    @property
    def vocab_size(self) -> int:
        return self._vocab_size

    @property
    def context_length(self) -> int:
        return self._context_length

    @property
    def eos_ids(self) -> frozenset[int]:
        return self._eos_ids

    @property
    def vocab_fingerprint(self) -> str:
        if self.tokenizer is None:
            return f"no-tokenizer-{self._numerics.split('-')[0]}"
        return self.tokenizer.vocab_fingerprint

    @property
    def numerics(self) -> str:
        return self._numerics

    @property
    def cache_bytes(self) -> int:
        """Bytes of cache of all living sequences, shared prefixes once."""
        return self._store.allocated_bytes

    @property
    def shapes(self) -> tuple[LayerShape, ...]:
        """Of the keys and values of each layer."""
        return self._store.shapes

    @property
    def num_query_heads(self) -> int:
        """Of each layer."""
        return int(self._module.config.get_text_config().num_attention_heads)

    @property
    def cache_dtype(self) -> torch.dtype:
        """Of keys and values."""
        return self._store.dtype

    @property
    def device(self) -> torch.device:
        return self._device

    @property
    def narrow_rows(self) -> int | None:
        """Up to so many rows a pass takes packed weights, beyond them bfloat16; None if there are none."""
        return self._by_width[0].narrow_rows if self._by_width else None

    @narrow_rows.setter
    def narrow_rows(self, num_rows: int) -> None:
        for layer in self._by_width:
            layer.narrow_rows = num_rows

    def new_sequence(self) -> KVSequence:
        return self._store.new_sequence()

    def forward(self, feeds: Sequence[Feed]) -> torch.Tensor:
        """One ragged pass: float32 logits [rows wanted, vocab_size], feed by feed.

        If it raises, no sequence has changed.
        """
        import torch

        spans, tokens = self._check(feeds)
        with torch.inference_mode():
            if not spans:
                return torch.empty(0, self._vocab_size)
            for span in spans:
                span.sequence.reserve(span.count)
            wanted = _wanted_rows(feeds)
            rows = self._run_tiles(spans, tokens, wanted) if self.exact else self._run(spans, tokens, wanted)
        for span in spans:
            span.sequence.advance(span.count)
        return rows

    def _check(self, feeds: Sequence[Feed]) -> tuple[list[Span], list[int]]:
        spans: list[Span] = []
        tokens: list[int] = []
        seen: set[int] = set()
        for feed in feeds:
            sequence, count = _own(feed.sequence, self._store), len(feed.tokens)
            if id(sequence) in seen:
                raise ModelError("a sequence takes part twice in one pass")
            seen.add(id(sequence))
            if not 0 <= feed.num_logits <= count:
                raise ModelError(f"{feed.num_logits} rows of logits wanted after {count} tokens")
            if sequence.length + count > self._context_length:
                raise ContextExceeded(sequence.length + count, self._context_length)
            if count:
                spans.append(Span(sequence, len(tokens), count, sequence.length))
            tokens.extend(feed.tokens)
        if tokens and not (min(tokens) >= 0 and max(tokens) < self._vocab_size):
            raise ModelError(f"a token id is outside the vocabulary of {self._vocab_size}")
        return spans, tokens

    def _run(self, spans: list[Span], tokens: list[int], wanted: list[int]) -> torch.Tensor:
        # Rows that pad to a bucket repeat the last wanted one; a pass without wanted rows skips the head.
        rows = wanted + wanted[-1:] * (bucket(len(wanted)) - len(wanted)) if wanted else []
        return self._call(Plan(spans), spans, tokens, bucket(len(tokens)), rows)[: len(wanted)]

    def _run_tiles(self, spans: list[Span], tokens: list[int], wanted: list[int]) -> torch.Tensor:
        import torch

        result = []
        kept = set(wanted)
        at = 0
        for tile in tiles(spans):
            count = sum(span.count for span in tile)
            here = [row for row in range(count) if at + row in kept]
            # All rows through the head or none: its width must be the tile's as well.
            rows = list(range(TILE_ROWS)) if here else []
            logits = self._call(ExactPlan(tile), tile, tokens[at : at + count], TILE_ROWS, rows)
            result.append(logits[here])
            at += count
        return torch.cat(result)

    def _call(
        self, plan: Attender, spans: list[Span], tokens: list[int], num_rows: int, logits_rows: list[int]
    ) -> torch.Tensor:
        padding = [0] * (num_rows - len(tokens))
        positions = [span.past + index for span in spans for index in range(span.count)]
        return self.compute(tokens + padding, positions + padding, logits_rows, plan)

    def compute(
        self, tokens: Sequence[int], positions: Sequence[int], logits_rows: Sequence[int], plan: Attender
    ) -> torch.Tensor:
        """Rows in, float32 logits of the wanted ones out, with attention left to the plan.

        For whoever keeps its keys and values elsewhere; nothing is checked and no sequence is touched.
        """
        import torch

        ids = torch.tensor(tokens, device=self._device)
        where = torch.tensor(positions, device=self._device)
        rows = torch.tensor(logits_rows, dtype=torch.long, device=self._device)
        if self._lean is not None:
            return self._lean(ids, where, rows, plan)
        output = self._module(
            input_ids=ids[None],
            position_ids=where[None],
            use_cache=False,
            logits_to_keep=rows,
            cascade_plan=plan,
        )
        logits: torch.Tensor = output.logits[0].float()
        return logits


def _wanted_rows(feeds: Sequence[Feed]) -> list[int]:
    rows: list[int] = []
    end = 0
    for feed in feeds:
        end += len(feed.tokens)
        rows.extend(range(end - feed.num_logits, end))
    return rows


def _own(sequence: TokenSequence, store: KVStore) -> KVSequence:
    if not isinstance(sequence, KVSequence) or sequence.store is not store:
        raise ModelError("this sequence was made by another model")
    return sequence


def _eos_ids(module: Any, tokenizer: TextTokenizer | None) -> frozenset[int]:
    found = set() if tokenizer is None else set(tokenizer.eos_ids)
    for settings in (getattr(module, "generation_config", None), module.config.get_text_config()):
        value = getattr(settings, "eos_token_id", None)
        found.update(
            item for item in (value if isinstance(value, list) else [value]) if isinstance(item, int)
        )
    return frozenset(found)
