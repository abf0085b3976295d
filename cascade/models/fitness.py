"""Can this model run in ragged batches? Found out when it is loaded, not in the middle of an answer."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import ModelError
from .kv import LayerShape
from .ragged import ATTENTION_NAME, Probe

if TYPE_CHECKING:
    import torch

    from .huggingface import HuggingFaceModel

__all__ = ["StockRun", "context_length", "inspect", "numerics_class", "verify"]

LAYER_TYPES = {"full_attention", "sliding_attention"}
PROBE_TOKENS = 12
HASH_NUMBERS = 4096


@dataclass(frozen=True, slots=True)
class StockRun:
    """What the model said when transformers ran it by itself."""

    name: str
    config: Any
    dtype: torch.dtype
    tokens: list[int]
    logits: torch.Tensor
    shapes: tuple[LayerShape, ...]
    windows: list[int | None]


def context_length(config: Any) -> int:
    """Positions that give the same result in any company.

    Rotary scalings that look at the longest text of the batch are used up to the length where they begin.
    """
    length = getattr(config, "max_position_embeddings", None)
    if not isinstance(length, int) or length < 1:
        raise ModelError(f"{_name(config)}: its configuration does not say how long a text may be")
    rope = getattr(config, "rope_parameters", None) or {}
    per_type = [value for value in rope.values() if isinstance(value, dict)] or [rope]
    for parameters in per_type:
        if parameters.get("rope_type") in ("dynamic", "longrope"):
            limit = parameters.get("original_max_position_embeddings")
            limit = limit or getattr(config, "original_max_position_embeddings", None)
            length = min(length, int(limit or length))
    return length


def inspect(module: Any, name: str, vocab_size: int) -> StockRun:
    """Run the model as transformers does, and note the shapes of its attention. Refuses what cannot work."""
    import inspect as python_inspect

    import torch

    config = module.config.get_text_config()
    if not getattr(module, "_supports_attention_backend", False):
        raise _refused(name, config, "its attention does not go through transformers' attention interface")
    if "logits_to_keep" not in python_inspect.signature(module.forward).parameters:
        raise _refused(name, config, "it cannot compute logits for chosen rows only (logits_to_keep)")
    unknown = sorted(set(getattr(config, "layer_types", None) or []) - LAYER_TYPES)
    if unknown:
        raise _refused(name, config, f"it has layers of type {', '.join(unknown)}")
    tokens = [(7 * index + 3) % vocab_size for index in range(PROBE_TOKENS)]
    ids = torch.tensor([tokens], device=module.device)
    probe = Probe()
    with torch.inference_mode():
        module.set_attn_implementation("eager")
        logits = module(input_ids=ids, use_cache=False).logits[0].float()
        module.set_attn_implementation(ATTENTION_NAME)
        positions = torch.arange(len(tokens), device=module.device)[None]
        try:
            module(input_ids=ids, position_ids=positions, use_cache=False, cascade_plan=probe)
        except (ModelError, TypeError) as error:
            raise _refused(name, config, str(error)) from error
    shapes = _shapes(probe, name, config)
    windows = [probe.windows[layer] for layer in range(len(shapes))]
    return StockRun(name, config, module.dtype, tokens, logits, shapes, windows)


def verify(model: HuggingFaceModel, stock: StockRun) -> None:
    """Refuse a model whose ragged, chunked passes differ from what transformers itself computed."""
    import torch

    from .base import Feed

    one, other = model.new_sequence(), model.new_sequence()
    cut = PROBE_TOKENS // 2 + 1
    first = model.forward([Feed(other, stock.tokens[:3], 0), Feed(one, stock.tokens[:cut], cut)])
    rest = model.forward([Feed(one, stock.tokens[cut:], PROBE_TOKENS - cut)])
    ours = torch.cat([first, rest])
    error = float((ours - stock.logits).norm() / stock.logits.norm().clamp_min(1e-30))
    allowed = 1e-3 if stock.dtype == torch.float32 else 0.1
    if not error <= allowed:  # NaN is refused too
        reason = f"its logits in ragged batches are off by {error:.2g} (allowed {allowed:g})"
        raise _refused(stock.name, stock.config, reason)


def numerics_class(module: Any, dtype: str, *, exact: bool) -> str:
    """weights-dtype[-exact...]: sessions move only between models where this string is equal."""
    import torch

    parts = [_weights_hash(module), dtype]
    if exact:
        from .exact import TILE_ROWS

        # Bits also depend on the kernels: their version, the processor's abilities, how work is split.
        place = torch.backends.cpu.get_cpu_capability() if module.device.type == "cpu" else module.device.type
        parts += [f"exact{TILE_ROWS}", torch.__version__.replace("+", "_"), place.replace(" ", "")]
        parts += [f"t{torch.get_num_threads()}"]
    return "-".join(parts)


def _weights_hash(module: Any) -> str:
    """Names, shapes and evenly spread numbers of all weights: tells models apart without reading all."""
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name}:{tuple(tensor.shape)}".encode())
        flat = tensor.reshape(-1)
        step = max(1, flat.numel() // HASH_NUMBERS)
        digest.update(flat[::step].to("cpu", torch.float32).numpy().tobytes())
    return digest.hexdigest()[:16]


def _shapes(probe: Probe, name: str, config: Any) -> tuple[LayerShape, ...]:
    num_layers = int(config.num_hidden_layers)
    if sorted(probe.shapes) != list(range(num_layers)):
        seen = f"{len(probe.shapes)} of its {num_layers} layers"
        raise _refused(name, config, f"only {seen} attend through the interface")
    for layer, kind in enumerate(getattr(config, "layer_types", None) or []):
        if (kind == "sliding_attention") != (probe.windows[layer] is not None) and config.sliding_window:
            raise _refused(name, config, f"layer {layer} is {kind}, but its attention says otherwise")
    return tuple(probe.shapes[layer] for layer in range(num_layers))


def _refused(name: str, config: Any, reason: str) -> ModelError:
    return ModelError(f"{name} ({_name(config)}) cannot run in ragged batches: {reason}")


def _name(config: Any) -> str:
    return str(getattr(config, "model_type", type(config).__name__))
