"""From a target to a draft: texts, vocabulary, exam, teacher, surgery, training, card.

Each stage leaves whole files in a state folder and skips what is there already, so the same call again goes
on where the last one stopped, whatever stopped it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ...errors import ModelError
from ..loading import Source, count_parameters, resolve
from ..reading import read_tokenizer
from ..vocabulary import VocabularyMap, has_vocabulary_map
from .exam import Exam, Paper, grade, set_exam
from .files import read_json, write_json
from .gathering import Origin, gather
from .interrupts import deferred_interrupts
from .memory import keep_large_blocks
from .progress import Pace, Progress
from .result import as_model, check_free, machine, write_draft
from .settings import DistillSettings
from .steptime import step_times
from .surgery import build_draft, choose_vocabulary, default_layers, nearest_kept
from .target import Target
from .teacher import Shard, load_shard, save_shard, teach
from .texts import Text, chunks
from .training import Lessons, Trainer

__all__ = ["distill", "state_folder"]

FIXED = ("layers", "vocab", "num_best", "prompt_tokens", "answer_tokens", "held_out", "seed")
"""Settings that a state folder is made with; the others may differ when a distillation goes on."""
CURVE_TEXTS = 32
"""Texts of the exam that are marked for a point of the learning curve."""


def state_folder(out: Path) -> Path:
    """Where the work for a draft in `out` is kept; needed only to go on with it."""
    return out.with_name(out.name + ".state")


def distill(
    ref: str | Path,
    out: Path,
    settings: DistillSettings,
    *,
    clock: Callable[[], float],
    prompts: Path | None = None,
    text: Path | None = None,
    report: Callable[[Progress], None] | None = None,
) -> dict[str, Any]:
    """Make a draft for a target in the folder `out`; returns its card.

    The target invents the prompts, or they come from a file (`prompts`), or the texts are ready (`text`).
    `clock` gives seconds that only grow. Interrupt it (KeyboardInterrupt, a kill, a crash) and call it again.
    """
    check_free(out)
    origin = Origin(prompts, text)
    making = _Making(resolve(ref), state_folder(out), origin, settings, Pace(clock, report))
    card = making.run(out)
    making.pace.say("done", 1, 1)
    return card


class _Making:
    """The stages, in order."""

    def __init__(
        self, source: Source, state: Path, origin: Origin, settings: DistillSettings, pace: Pace
    ) -> None:
        self.pace = pace
        self._source = source
        self._state = state
        self._origin = origin
        self._settings = settings
        self._target = Target(source)
        self._layers = settings.layers or _default_layers(source)
        self._check_state()

    def run(self, out: Path) -> dict[str, Any]:
        tokenizer = read_tokenizer(self._source)
        gathered = gather(self._origin, self._state, self._target, tokenizer, self._settings, self.pace)
        vocabulary = self._vocabulary(gathered.texts)
        exam = self._exam(gathered.held_out)
        lessons = Lessons.prepare(gathered.texts, self._shards(gathered.texts), vocabulary)
        self._target.let_go()
        draft, trained = self._train(lessons, vocabulary, exam)
        self.pace.say("grades", 0, 1)
        card = {
            **self._what(draft, vocabulary, gathered.texts),
            "training": trained,
            **self._worth(draft, vocabulary, exam),
        }
        write_draft(out, draft, vocabulary, self._source.folder, gathered.held_out, card)
        return card

    def _vocabulary(self, texts: Sequence[Text]) -> VocabularyMap:
        """Chosen once: a draft's ids stay what they are when more text is learnt from."""
        folder = self._state / "vocabulary"
        if not has_vocabulary_map(folder):
            target, module = self._target(), self._target.module()
            always = target.eos_ids | _special_ids(module)
            kept = choose_vocabulary(texts, self._settings.vocab, always, target.vocab_size)
            embedding = module.get_input_embeddings().weight.detach()
            vocabulary = VocabularyMap(
                kept=kept,
                inputs=nearest_kept(embedding, kept),
                vocab_fingerprint=target.vocab_fingerprint,
                eos_ids=target.eos_ids,
            )
            folder.mkdir(parents=True, exist_ok=True)
            vocabulary.save(folder)
        return VocabularyMap.load(folder)

    def _exam(self, prompts: Sequence[tuple[int, ...]]) -> Exam:
        path = self._state / "exam.json"
        if not path.is_file():
            most = self._settings.answer_tokens
            total = 2 * len(prompts) * most
            self.pace.say("exam", 0, total, f"{len(prompts)} prompts")
            exam = set_exam(
                self._target(),
                prompts,
                most,
                self._settings.seed,
                lambda done: self.pace.say("exam", done, total, f"{len(prompts)} prompts"),
            )
            exam.save(path)
        return Exam.load(path)

    def _shards(self, texts: Sequence[Text]) -> list[Shard]:
        """What the target expects, chunk by chunk."""
        found = []
        parts = chunks(texts)
        for number, chunk in enumerate(parts):
            shard = load_shard(self._state, number, chunk)
            if shard is None:
                self.pace.say("teacher", number, len(parts))
                num_best = min(self._settings.num_best, self._target().vocab_size)
                shard = teach(self._target(), chunk, num_best)
                save_shard(self._state, number, chunk, shard)
            found.append(shard)
        self.pace.say("teacher", len(parts), len(parts))
        return found

    def _train(self, lessons: Lessons, vocabulary: VocabularyMap, exam: Exam) -> tuple[Any, dict[str, Any]]:
        """The trained module, and what the training was."""
        import torch

        draft = build_draft(self._target.module(), self._layers, vocabulary.kept, vocabulary.eos_ids)
        if torch.cuda.is_available():
            draft = draft.to("cuda")
        trainer = Trainer(draft, lessons, self._settings)
        path = self._state / "checkpoint.safetensors"
        curve: list[dict[str, Any]] = []
        if path.is_file():
            curve = list(trainer.load(path).get("curve", ()))
        paper = exam.greedy
        part = Paper(paper.temperature, paper.seed, paper.texts[:CURVE_TEXTS])
        keep_large_blocks()
        with deferred_interrupts() as interrupted:
            self._steps(
                trainer, path, curve, lambda: grade(as_model(draft, vocabulary), part).agreement, interrupted
            )
        trained = {
            "steps": trainer.step,
            "answer_tokens_seen": trainer.tokens_seen,
            "minutes": round(trainer.seconds / 60, 2),
            "machine": machine(),
            "curve": curve,
        }
        return draft, trained

    def _steps(
        self,
        trainer: Trainer,
        path: Path,
        curve: list[dict[str, Any]],
        mark: Callable[[], float],
        interrupted: Callable[[], bool],
    ) -> None:
        """Steps until the budget is spent; exams and files do not count as time of training."""
        clock = self.pace.clock
        now = saved = marked = clock()
        loss = math.nan
        while trainer.progress < 1:
            last = trainer.train_step()
            loss = last if math.isnan(loss) else 0.95 * loss + 0.05 * last
            trainer.seconds += clock() - now
            now = clock()
            note = f"step {trainer.step}, {trainer.tokens_seen} tokens, loss {loss:.3f}"
            self.pace.say("training", trainer.progress, 1, note)
            is_last = trainer.progress >= 1 or interrupted()
            if now - marked >= self._settings.exam_s and not is_last:
                curve.append(_point(trainer, loss, mark()))
                self.pace.say("training", trainer.progress, 1, f"{note}, agreement {curve[-1]['agreement']}")
                now = marked = clock()
            if is_last or now - saved >= self._settings.checkpoint_s:
                trainer.save(path, curve=curve)
                now = saved = clock()
            if interrupted():
                raise KeyboardInterrupt

    def _what(self, draft: Any, vocabulary: VocabularyMap, texts: Sequence[Text]) -> dict[str, Any]:
        return {
            "target": self._source.name,
            "target_numerics": self._target().numerics,
            "target_vocab_fingerprint": vocabulary.vocab_fingerprint,
            "layers_of_target": list(self._layers),
            "vocab_size": len(vocabulary.kept),
            "parameters": sum(parameter.numel() for parameter in draft.parameters()),
            "text": {
                "origin": self._origin.about,
                "texts": len(texts),
                "answer_tokens": sum(len(text.answer) for text in texts),
            },
            "settings": {**dataclasses.asdict(self._settings), "layers": list(self._layers)},
        }

    def _worth(self, draft: Any, vocabulary: VocabularyMap, exam: Exam) -> dict[str, Any]:
        model = as_model(draft, vocabulary)
        return {
            "held_out_prompts": len(exam.greedy.texts),
            "agreement": {
                "greedy": grade(model, exam.greedy).as_json(),
                "temperature_0.8": grade(model, exam.sampled).as_json(),
            },
            "step_time": {
                "dtype": self._target().dtype,
                **step_times(model, self._target(), self.pace.clock),
            },
        }

    def _check_state(self) -> None:
        """A state folder belongs to one target, one origin of texts and one set of fixed settings."""
        path = self._state / "settings.json"
        now: dict[str, Any] = {
            "target": self._source.name,
            "target_parameters": count_parameters(self._source.folder),
            "text": self._origin.identity,
            **{name: getattr(self._settings, name) for name in FIXED},
            "layers": list(self._layers),
        }
        before = read_json(path)
        if not before:
            write_json(path, now)
        for name, value in before.items():
            if now.get(name) != value:
                raise ModelError(
                    f"the work in {self._state} was begun with {name} {value}, not {now.get(name)}; "
                    "go on with that, name another --out, or delete the folder"
                )


def _point(trainer: Trainer, loss: float, agreement: float) -> dict[str, Any]:
    """Of the learning curve."""
    return {
        "minutes": round(trainer.seconds / 60, 2),
        "answer_tokens_seen": trainer.tokens_seen,
        "loss": round(loss, 4),
        "agreement": round(agreement, 4),
    }


def _default_layers(source: Source) -> tuple[int, ...]:
    config = read_json(source.folder / "config.json")
    config = config.get("text_config", config)
    return default_layers(int(config.get("num_hidden_layers") or config.get("n_layer") or 1))


def _special_ids(module: Any) -> frozenset[int]:
    config = module.config.get_text_config()
    found = [getattr(config, name, None) for name in ("bos_token_id", "pad_token_id")]
    return frozenset(token for token in found if isinstance(token, int) and token >= 0)
