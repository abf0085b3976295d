"""A draft cut out of its target: some of its layers, and the part of its vocabulary that is used."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ...errors import ModelError
from .texts import Text

if TYPE_CHECKING:
    import torch

__all__ = ["build_draft", "choose_vocabulary", "default_layers", "nearest_kept"]

ROWS_AT_ONCE = 2048


def default_layers(num_layers: int) -> tuple[int, ...]:
    """The first three and the last: what turns tokens into meaning, and meaning into tokens."""
    return tuple(sorted({*range(min(3, num_layers)), num_layers - 1}))


def choose_vocabulary(
    texts: Sequence[Text], size: int, always: frozenset[int], vocab_size: int
) -> npt.NDArray[np.int64]:
    """The `size` ids that answers use most (then prompts), ascending; `always` are among them.

    Places that no text has a token for go to the lowest ids, which tokenizers give to the commonest.
    """
    size = min(size, vocab_size)
    if len(always) > size:
        raise ModelError(f"a vocabulary of {size} has no room for the {len(always)} special tokens")
    in_answers = Counter(token for text in texts for token in text.answer)
    in_prompts = Counter(token for text in texts for token in text.prompt)
    ranked = sorted(
        range(vocab_size),
        key=lambda token: (token not in always, -in_answers[token], -in_prompts[token], token),
    )
    return np.array(sorted(ranked[:size]), dtype=np.int64)


def nearest_kept(embedding: torch.Tensor, kept: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """For every row of the table the place in `kept` whose row points the same way most nearly."""
    import torch

    table = torch.nn.functional.normalize(embedding.float(), dim=1)
    chosen = table[torch.from_numpy(kept)].T.contiguous()
    parts = [(table[at : at + ROWS_AT_ONCE] @ chosen).argmax(1) for at in range(0, len(table), ROWS_AT_ONCE)]
    found: npt.NDArray[np.int64] = torch.cat(parts).numpy().astype(np.int64)
    found[kept] = np.arange(len(kept))
    return found


def build_draft(
    target: Any, layers: Sequence[int], kept: npt.NDArray[np.int64], eos_ids: frozenset[int]
) -> Any:
    """A module of the target's own family with copies of some of its weights.

    `target` is a `...ForCausalLM` module, which stays as it is. A head of its own stays one in the draft.
    """
    import transformers

    config = copy.deepcopy(target.config)
    text_config = config.get_text_config()
    num_layers = int(text_config.num_hidden_layers)
    _check_layers(layers, num_layers)
    text_config.num_hidden_layers = len(layers)
    kinds = getattr(text_config, "layer_types", None)
    if kinds is not None:
        text_config.layer_types = [kinds[layer] for layer in layers]
    places = {int(token): place for place, token in enumerate(kept)}
    text_config.vocab_size = len(kept)
    text_config.eos_token_id = sorted(places[token] for token in eos_ids) or None
    for name in ("bos_token_id", "pad_token_id"):
        token = getattr(text_config, name, None)
        setattr(text_config, name, None if token is None else places.get(int(token)))
    auto: Any = transformers.AutoModelForCausalLM
    draft = auto.from_config(config, attn_implementation="eager")
    draft.load_state_dict(_weights(target, layers, num_layers, kept), strict=True)
    draft.generation_config = transformers.GenerationConfig.from_model_config(config)
    return draft.float()


def _check_layers(layers: Sequence[int], num_layers: int) -> None:
    if not layers or list(layers) != sorted(set(layers)) or layers[0] < 0 or layers[-1] >= num_layers:
        shown = ",".join(map(str, layers))
        raise ModelError(
            f"layers {shown or '(none)'} cannot be taken: name some of 0 to {num_layers - 1}, ascending"
        )


def _weights(
    target: Any, layers: Sequence[int], num_layers: int, kept: npt.NDArray[np.int64]
) -> dict[str, torch.Tensor]:
    """The target's state under the draft's names: layers counted anew, tables over tokens trimmed."""
    import torch

    stack = _layer_stack(target, num_layers)
    tables = {id(target.get_input_embeddings()), id(target.get_output_embeddings())}
    token_tables = {name for name, module in target.named_modules() if id(module) in tables}
    rows = torch.from_numpy(kept)
    weights = {}
    for name, tensor in target.state_dict().items():
        new_name = name
        if name.startswith(f"{stack}."):
            old, _, rest = name[len(stack) + 1 :].partition(".")
            if int(old) not in layers:
                continue
            new_name = f"{stack}.{list(layers).index(int(old))}.{rest}"
        trimmed = name.rpartition(".")[0] in token_tables
        weights[new_name] = (tensor[rows] if trimmed else tensor).detach().float().clone()
    return weights


def _layer_stack(target: Any, num_layers: int) -> str:
    import torch

    for name, module in target.named_modules():
        if isinstance(module, torch.nn.ModuleList) and len(module) == num_layers:
            return str(name)
    raise ModelError(f"{type(target).__name__} keeps its layers where no draft can be cut out of them")
