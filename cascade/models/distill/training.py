"""The training loop: cross-entropy against the target's stored distributions.

What it does depends on the seed and the step alone, so a training that goes on from a checkpoint does what it
would have done.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ...errors import ModelError
from ..ragged import ATTENTION_NAME, register
from ..vocabulary import VocabularyMap
from .files import write_whole
from .lesson import Lesson
from .loss import expected_loss
from .settings import DistillSettings
from .target import has_fast_bfloat16
from .texts import Text, common_start, packed

if TYPE_CHECKING:
    import torch

__all__ = ["Lessons", "Trainer"]

PASS_ROWS = 1536
"""Rows at once; a step's gradients add up over as many passes as its texts need."""


@dataclass(frozen=True, slots=True)
class Lessons:
    """Texts in the draft's ids, and what the target expected at each token of their answers."""

    texts: Sequence[Text]
    starts: npt.NDArray[np.int64]
    """Row of each text's first answer token in the two arrays."""
    ids: npt.NDArray[np.int32]
    """Draft ids [answer tokens, num_best], 0 where the draft has no such token."""
    chances: npt.NDArray[np.float16]
    """The target's probabilities, 0 where the draft has no such token."""

    @classmethod
    def prepare(
        cls,
        texts: Sequence[Text],
        shards: Sequence[dict[str, npt.NDArray[Any]]],
        vocabulary: VocabularyMap,
    ) -> Lessons:
        read = vocabulary.inputs.tolist()
        own = [
            Text(tuple(read[t] for t in text.prompt), tuple(read[t] for t in text.answer)) for text in texts
        ]
        starts = np.cumsum([0, *(len(text.answer) for text in texts)])
        ids, chances = [], []
        for shard in shards:
            places = vocabulary.outputs[shard["ids"]]
            chance = np.exp(shard["log_probs"].astype(np.float32)).astype(np.float16)
            chance[places < 0] = 0
            ids.append(np.maximum(places, 0).astype(np.int32))
            chances.append(chance)
        lessons = cls(own, starts[:-1], np.concatenate(ids), np.concatenate(chances))
        if len(lessons.ids) != starts[-1]:
            raise ModelError("what the teacher said does not belong to these texts; delete it from the state")
        return lessons


def _narrowed(part: Any, inputs: Any, output: torch.Tensor) -> torch.Tensor:
    """What a norm gives goes into several products: made narrow once, not for each of them."""
    import torch

    return output.to(torch.bfloat16) if torch.is_autocast_enabled(output.device.type) else output


class Trainer:
    """A draft in training: one step at a time, whole state in one file."""

    def __init__(self, module: Any, lessons: Lessons, settings: DistillSettings) -> None:
        import torch

        register()
        self.module = module.train()
        module.set_attn_implementation(ATTENTION_NAME)
        self.step = 0
        self.tokens_seen = 0
        self.seconds = 0.0
        """Spent in training, earlier sessions included."""
        self._lessons = lessons
        self._settings = settings
        self._is_mixed = has_fast_bfloat16()
        for part in module.modules():
            if type(part).__name__.endswith("Norm"):
                part.register_forward_hook(_narrowed)
        self._prefix = common_start([text.prompt for text in lessons.texts])
        self._device: torch.device = module.device
        self._parameters = dict(module.named_parameters())  # a tied table once
        # No decay: a draft begins with weights worth keeping.
        self._optimizer = torch.optim.AdamW(
            self._parameters.values(), settings.learning_rate, betas=(0.9, 0.98), weight_decay=0.0, fused=True
        )

    @property
    def steps_per_pass(self) -> int:
        return -(-len(self._lessons.texts) // self._settings.batch_texts)

    @property
    def total_steps(self) -> int:
        return math.ceil(self._settings.passes * self.steps_per_pass)

    @property
    def progress(self) -> float:
        """0 to 1: of the steps or of the time, whichever is further."""
        done = self.step / self.total_steps if self.total_steps else 1.0
        if self._settings.minutes:
            done = max(done, self.seconds / (60 * self._settings.minutes))
        return min(done, 1.0)

    def train_step(self) -> float:
        """One batch; returns its loss per token."""
        import torch

        numbers = self._batch(self.step)
        self._optimizer.zero_grad(set_to_none=True)
        for group in self._optimizer.param_groups:
            group["lr"] = self._settings.learning_rate * self._schedule()
        num_tokens = sum(len(self._lessons.texts[number].answer) for number in numbers)
        total = 0.0
        for part in packed([self._num_rows(number) for number in numbers], PASS_ROWS):
            total += self._learn([numbers[index] for index in part], num_tokens)
        torch.nn.utils.clip_grad_norm_(self._parameters.values(), 1.0)
        self._optimizer.step()
        self.step += 1
        self.tokens_seen += num_tokens
        return total

    def save(self, path: Path, **notes: Any) -> None:
        """Weights, moments and counters into one file, whole or not at all."""
        from safetensors.torch import save_file

        tensors = {}
        for name, parameter in self._parameters.items():
            tensors[f"weight:{name}"] = parameter.detach()
            for key, value in self._optimizer.state[parameter].items():
                tensors[f"{key}:{name}"] = value
        counters = {"step": self.step, "tokens_seen": self.tokens_seen, "seconds": self.seconds, **notes}
        metadata = {"counters": json.dumps(counters)}
        write_whole(path, lambda scratch: save_file(tensors, scratch, metadata=metadata))

    def load(self, path: Path) -> dict[str, Any]:
        """Go on from a file that `save` wrote; returns its notes."""
        import torch
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="pt") as file:
                counters: dict[str, Any] = json.loads(file.metadata()["counters"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            with torch.no_grad():
                for name, parameter in self._parameters.items():
                    parameter.copy_(tensors[f"weight:{name}"])
        except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise ModelError(f"{path} is no checkpoint of this training: {error}; delete it") from error
        self.step = int(counters.pop("step"))
        self.tokens_seen = int(counters.pop("tokens_seen"))
        self.seconds = float(counters.pop("seconds"))
        for key, tensor in tensors.items():
            kind, _, name = key.partition(":")
            if kind != "weight":
                device = self._device if tensor.dim() else torch.device("cpu")
                self._optimizer.state[self._parameters[name]][kind] = tensor.to(device)
        return counters

    def _batch(self, step: int) -> list[int]:
        """Numbers of the step's texts: every pass is an order of its own."""
        turn, at = divmod(step, self.steps_per_pass)
        order = np.random.default_rng([self._settings.seed, turn]).permutation(len(self._lessons.texts))
        size = self._settings.batch_texts
        return [int(number) for number in order[at * size : (at + 1) * size]]

    def _schedule(self) -> float:
        """Factor of the learning rate: a rise, then half a cosine down to a fiftieth."""
        done, warmup = self.progress, self._settings.warmup
        if done < warmup:
            return (done + 1 / max(1, self.total_steps)) / (warmup + 1 / max(1, self.total_steps))
        return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * (done - warmup) / max(1e-9, 1 - warmup)))

    def _expected(self, numbers: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        import torch

        texts, starts = self._lessons.texts, self._lessons.starts
        rows = np.concatenate([np.arange(len(texts[n].answer)) + starts[n] for n in numbers])
        ids = torch.from_numpy(self._lessons.ids[rows].astype(np.int64))
        chances = torch.from_numpy(self._lessons.chances[rows].astype(np.float32))
        return ids.to(self._device), chances.to(self._device)

    def _num_rows(self, number: int) -> int:
        return len(self._lessons.texts[number].tokens) - 1 - len(self._prefix)

    def _learn(self, numbers: Sequence[int], num_tokens: int) -> float:
        """Add these texts' share of the gradient; returns their share of the loss per token."""
        import torch

        texts = [self._lessons.texts[number] for number in numbers]
        lesson = Lesson(self._prefix, [text.tokens[:-1] for text in texts])

        def on_device(numbers: list[int]) -> torch.Tensor:
            return torch.tensor(numbers, device=self._device)

        # Weights, moments, norms and the loss stay in float32; products go where they are fast.
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._is_mixed):
            output = self.module(
                input_ids=on_device(lesson.tokens())[None],
                position_ids=on_device(lesson.positions())[None],
                use_cache=False,
                logits_to_keep=on_device(lesson.last_rows([len(text.answer) for text in texts])),
                cascade_plan=lesson,
            )
        loss = expected_loss(output.logits[0], *self._expected(numbers)) / num_tokens
        loss.backward()  # type: ignore[no-untyped-call]
        return float(loss.detach())
