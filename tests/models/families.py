"""Tiny random models of many families, made from configurations: nothing is downloaded."""

from __future__ import annotations

from typing import Any

import torch
import transformers

VOCAB = 96
SMALL: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def configs() -> dict[str, Any]:
    t: Any = transformers
    return {
        "llama": t.LlamaConfig(**SMALL),
        "qwen2": t.Qwen2Config(**SMALL),
        "qwen3": t.Qwen3Config(**SMALL, head_dim=16),
        "mistral": t.MistralConfig(**SMALL, sliding_window=9),
        "gemma2": t.Gemma2Config(
            **SMALL,
            head_dim=16,
            query_pre_attn_scalar=16,
            sliding_window=8,
            attn_logit_softcapping=5.0,
            final_logit_softcapping=3.0,
        ),
        "gemma3": t.Gemma3TextConfig(**SMALL, head_dim=16, sliding_window=8, sliding_window_pattern=2),
        "phi3": t.Phi3Config(**SMALL, sliding_window=11),
        "gpt2": t.GPT2Config(
            vocab_size=VOCAB, n_embd=32, n_layer=3, n_head=4, n_positions=256, eos_token_id=2
        ),
        "gpt_neox": t.GPTNeoXConfig(**{**SMALL, "num_key_value_heads": 4}),
        "granite": t.GraniteConfig(
            **SMALL, logits_scaling=2.0, attention_multiplier=0.1, embedding_multiplier=3.0
        ),
        "cohere": t.CohereConfig(**SMALL, logit_scale=0.25),
        "olmo2": t.Olmo2Config(**SMALL),
    }


FAMILIES = sorted(configs())


def build(family: str, *, seed: int = 0, attention: str = "eager", **changes: Any) -> Any:
    """A random model whose logits vary enough that a wrong cache shows."""
    config = configs()[family]
    for name, value in changes.items():
        setattr(config, name, value)
    torch.manual_seed(seed)
    auto: Any = transformers.AutoModelForCausalLM
    model = auto.from_config(config, attn_implementation=attention)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.25)
    return model.eval().requires_grad_(False)


def stock_logits(model: Any, tokens: list[int]) -> torch.Tensor:
    with torch.inference_mode():
        logits: torch.Tensor = model(input_ids=torch.tensor([tokens]), use_cache=False).logits[0].float()
    return logits


def text(length: int, seed: int) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(3, VOCAB, (length,), generator=generator).tolist()
