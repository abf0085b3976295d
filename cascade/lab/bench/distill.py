"""What each stage of making a draft gets through: answer tokens a second of self-play, teacher and training.

Seconds of the processor stand beside seconds on the wall, which grow with what else runs.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

__all__ = ["run"]

TARGET = "smollm2-135m"
NUM_TEXTS = 128
ANSWER_TOKENS = 96
QUICK_TEXTS = 16


def run(*, quick: bool = False, target: str = TARGET) -> dict[str, Any]:
    """Measure with the threads that torch has; needs the target (cascade models fetch)."""
    import numpy as np
    import torch

    from cascade.models.distill.selfplay import InventedPrompts, write_answers
    from cascade.models.distill.settings import DistillSettings
    from cascade.models.distill.surgery import build_draft, choose_vocabulary, default_layers, nearest_kept
    from cascade.models.distill.target import Target, has_fast_bfloat16
    from cascade.models.distill.teacher import Notes, teach
    from cascade.models.distill.training import Lessons, Trainer
    from cascade.models.loading import resolve
    from cascade.models.reading import read_tokenizer
    from cascade.models.vocabulary import VocabularyMap

    count = QUICK_TEXTS if quick else NUM_TEXTS
    settings = DistillSettings(answer_tokens=ANSWER_TOKENS)
    source = resolve(target)
    loaded = Target(source)
    model = loaded()
    prompts = InventedPrompts(loaded, read_tokenizer(source), settings).prompts(0, count)
    notes = Notes(count, settings.num_best)
    texts, writing = _timed(lambda: write_answers(model, prompts, 0, settings, None, notes))
    num_tokens = sum(len(text.answer) for text in texts)
    _, reading = _timed(lambda: teach(model, texts, settings.num_best))
    module = loaded.module()
    kept = choose_vocabulary(texts, settings.vocab, model.eos_ids, model.vocab_size)
    vocabulary = VocabularyMap(
        kept=np.asarray(kept),
        inputs=nearest_kept(module.get_input_embeddings().weight.detach(), kept),
        vocab_fingerprint=model.vocab_fingerprint,
        eos_ids=model.eos_ids,
    )
    layers = default_layers(len(model.shapes))
    draft = build_draft(module, layers, kept, model.eos_ids)
    trainer = Trainer(draft, Lessons.prepare(texts, [notes.shard()], vocabulary), settings)
    trainer.train_step()
    before = trainer.tokens_seen
    steps = max(1, count // settings.batch_texts - 1)
    _, training = _timed(lambda: [trainer.train_step() for _ in range(steps)])
    rates = {
        "self_play": _rates(num_tokens, writing),
        "teacher": _rates(num_tokens, reading),
        "training": _rates(trainer.tokens_seen - before, training),
    }
    return {
        "target": target,
        "bfloat16": has_fast_bfloat16(),
        "threads": torch.get_num_threads(),
        "texts_side_by_side": count,
        "answer_tokens_per_s": rates,
    }


def _timed(work: Callable[[], Any]) -> tuple[Any, tuple[float, float]]:
    """The result, and seconds on the wall and of the processor."""
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    result = work()
    return result, (time.perf_counter() - wall_s, time.process_time() - cpu_s)


def _rates(num_tokens: int, seconds: tuple[float, float]) -> dict[str, int]:
    return {name: round(num_tokens / s) for name, s in zip(("wall", "processor"), seconds, strict=True)}
