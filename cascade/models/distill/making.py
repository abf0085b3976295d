"""From a target to a draft: texts, vocabulary, exam, teacher, surgery, training, card.

Each stage leaves whole files in a state folder and skips what is there already, so the same call again goes
on where the last one stopped, whatever stopped it.
"""

from __future__ import annotations

import copy
import dataclasses
import math
import platform
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import ModelError
from ..huggingface import HuggingFaceModel
from ..hushed import quiet
from ..loading import Source, resolve
from ..reading import read_module, read_tokenizer
from ..trimmed import TrimmedModel
from ..vocabulary import TOKENIZER_FOLDER, VocabularyMap, has_vocabulary_map
from .exam import Exam, Paper, grade, set_exam
from .files import read_arrays, read_json, write_arrays, write_json
from .interrupts import deferred_interrupts
from .selfplay import InventedPrompts, PromptSource, WrittenPrompts, write_answers
from .settings import DistillSettings
from .steptime import step_times
from .surgery import build_draft, choose_vocabulary, default_layers, nearest_kept
from .teacher import teach
from .texts import CHUNK_TEXTS, Text, chunks, read_texts, write_texts
from .training import Lessons, Trainer

__all__ = ["CARD_FILE", "Progress", "distill", "state_folder"]

CARD_FILE = "card.json"
FIXED = ("layers", "vocab", "num_best", "prompt_tokens", "answer_tokens", "held_out", "seed")
"""Settings that a state folder is made with; the others may differ when a distillation goes on."""
CURVE_TEXTS = 32
"""Texts of the exam that are marked for a point of the learning curve."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a distillation is."""

    stage: str
    """texts, exam, teacher, training, grades or done."""
    done: float
    total: float
    left_s: float | None
    """Until the stage ends, judged by this session's pace; None while that is unknown."""
    note: str = ""


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
    if prompts is not None and text is not None:
        raise ModelError("give prompts or ready texts, not both")
    if out.exists() and not ((out / CARD_FILE).is_file() or (out.is_dir() and not any(out.iterdir()))):
        raise ModelError(f"{out} is there already and holds no draft of this command; choose another folder")
    making = _Making(ref, state_folder(out), settings, clock, report or (lambda progress: None))
    texts, held_out = making.texts(prompts, text)
    vocabulary = making.vocabulary(texts)
    exam = making.exam(held_out)
    shards = making.shards(texts)
    draft = making.train(Lessons.prepare(texts, shards, vocabulary), vocabulary, exam)
    card = making.card(draft, vocabulary, exam, texts, prompts, text)
    making.write(out, draft, vocabulary, card)
    making.say("done", 1, 1)
    return card


class _Making:
    """The stages, in order. The target is in memory only while a stage needs it."""

    def __init__(
        self,
        ref: str | Path,
        state: Path,
        settings: DistillSettings,
        clock: Callable[[], float],
        report: Callable[[Progress], None],
    ) -> None:
        self._source: Source = resolve(ref)
        self._state = state
        self._settings = settings
        self._clock = clock
        self._report = report
        self._tokenizer = read_tokenizer(self._source)
        self._target: HuggingFaceModel | None = None
        self._stage_began: tuple[str, float, float] = ("", 0.0, 0.0)
        self._curve: list[dict[str, Any]] = []
        self._trained: dict[str, Any] = {}
        self._check_state()

    def say(self, stage: str, done: float, total: float, note: str = "") -> None:
        """Report, with the time left as this session's pace has it."""
        now = self._clock()
        if self._stage_began[0] != stage:
            self._stage_began = (stage, now, done)
        _, began, first = self._stage_began
        left = (now - began) / (done - first) * (total - done) if done > first else None
        self._report(Progress(stage=stage, done=done, total=total, left_s=left, note=note))

    def texts(self, prompts: Path | None, text: Path | None) -> tuple[list[Text], list[tuple[int, ...]]]:
        """The training texts, and the prompts of the exam."""
        if text is not None:
            return self._ready_texts(text)
        source: PromptSource
        if prompts is not None:
            written = WrittenPrompts(prompts, self._tokenizer)
            source, held = written, _num_held_out(written.count, self._settings)
        else:
            source = InventedPrompts(self.target, self._tokenizer, self._settings)
            held = self._settings.held_out
        found: list[Text] = []
        wanted, so_far = self._settings.tokens, 0
        while so_far < wanted:
            number = len(found) // CHUNK_TEXTS
            path = self._state / "texts" / f"{number:05d}.jsonl.gz"
            if not path.is_file():
                self.say("texts", so_far, wanted, f"{len(found)} texts")
                first = held + len(found)
                asked = source.prompts(first, CHUNK_TEXTS)
                if not asked:
                    break
                write_texts(path, write_answers(self.target, asked, first, self._settings))
            chunk = read_texts(path)
            found += chunk
            so_far += sum(len(one.answer) for one in chunk)
            if len(chunk) < CHUNK_TEXTS:
                break
        self.say("texts", wanted, wanted, f"{len(found)} texts")
        if not found:
            raise ModelError("there are too few prompts: at least two are needed, one of them for the exam")
        path = self._state / "held_out.json"
        if not path.is_file():
            write_json(path, {"prompts": source.prompts(0, held)})
        return found, [tuple(prompt) for prompt in read_json(path)["prompts"]]

    def vocabulary(self, texts: Sequence[Text]) -> VocabularyMap:
        """Chosen once: a draft's ids stay what they are when more text is learnt from."""
        folder = self._state / "vocabulary"
        if not has_vocabulary_map(folder):
            target, module = self.target, self._module()
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

    def exam(self, prompts: Sequence[tuple[int, ...]]) -> Exam:
        path = self._state / "exam.json"
        if not path.is_file():
            self.say("exam", 0, 1, f"{len(prompts)} prompts")
            set_exam(self.target, prompts, self._settings.answer_tokens, self._settings.seed).save(path)
        return Exam.load(path)

    def shards(self, texts: Sequence[Text]) -> list[dict[str, Any]]:
        """What the target expects, chunk by chunk."""
        found = []
        parts = chunks(texts)
        for number, chunk in enumerate(parts):
            path = self._state / "teacher" / f"{number:05d}.npz"
            if not path.is_file():
                self.say("teacher", number, len(parts))
                num_best = min(self._settings.num_best, self.target.vocab_size)
                write_arrays(path, teach(self.target, chunk, num_best))
            found.append(read_arrays(path))
        self.say("teacher", len(parts), len(parts))
        return found

    def train(self, lessons: Lessons, vocabulary: VocabularyMap, exam: Exam) -> Any:
        """The trained module."""
        draft = self._untrained(vocabulary)
        self._target = None  # half a gigabyte that training can do without
        trainer = Trainer(draft, lessons, self._settings)
        path = self._state / "checkpoint.safetensors"
        if path.is_file():
            self._curve = list(trainer.load(path).get("curve", ()))
        with deferred_interrupts() as interrupted:
            self._run(trainer, path, lambda: self._mark(draft, vocabulary, exam), interrupted)
        self._trained = {
            "steps": trainer.step,
            "answer_tokens_seen": trainer.tokens_seen,
            "minutes": round(trainer.seconds / 60, 2),
        }
        return draft

    def _run(
        self,
        trainer: Trainer,
        path: Path,
        mark: Callable[[], float],
        interrupted: Callable[[], bool],
    ) -> None:
        """Steps until the budget is spent; the clock of the training stands still during exams."""
        now = self._clock()
        saved = marked = now
        loss = math.nan
        while trainer.progress < 1:
            last = trainer.train_step()
            loss = last if math.isnan(loss) else 0.95 * loss + 0.05 * last
            trainer.seconds += self._clock() - now
            now = self._clock()
            note = f"step {trainer.step}, {trainer.tokens_seen} tokens, loss {loss:.3f}"
            self.say("training", trainer.progress, 1, note)
            is_last = trainer.progress >= 1 or interrupted()
            if now - marked >= self._settings.exam_s and not is_last:
                self._add_to_curve(trainer, loss, mark())
                self.say("training", trainer.progress, 1, f"{note}, agreement {self._curve[-1]['agreement']}")
                now = marked = self._clock()
            if is_last or now - saved >= self._settings.checkpoint_s:
                trainer.save(path, curve=self._curve)
                now = saved = self._clock()
            if interrupted():
                raise KeyboardInterrupt

    def _add_to_curve(self, trainer: Trainer, loss: float, agreement: float) -> None:
        self._curve.append(
            {
                "minutes": round(trainer.seconds / 60, 2),
                "answer_tokens_seen": trainer.tokens_seen,
                "loss": round(loss, 4),
                "agreement": round(agreement, 4),
            }
        )

    def card(
        self,
        draft: Any,
        vocabulary: VocabularyMap,
        exam: Exam,
        texts: Sequence[Text],
        prompts: Path | None,
        text: Path | None,
    ) -> dict[str, Any]:
        """What the draft is, how it came about and what it is worth."""
        self.say("grades", 0, 1)
        model = _as_model(draft, vocabulary)
        grades = {
            "greedy": grade(model, exam.greedy).as_json(),
            "temperature_0.8": grade(model, exam.sampled).as_json(),
        }
        times = step_times(model, self.target, self._clock)
        if prompts is not None:
            origin = f"prompts of a file ({prompts.name}), answers by the target"
        elif text is not None:
            origin = f"texts of a file ({text.name})"
        else:
            origin = "prompts and answers by the target itself"
        return {
            "target": self._source.name,
            "target_numerics": self.target.numerics,
            "target_vocab_fingerprint": vocabulary.vocab_fingerprint,
            "layers_of_target": list(self._layers()),
            "vocab_size": len(vocabulary.kept),
            "parameters": sum(parameter.numel() for parameter in draft.parameters()),
            "text": {
                "origin": origin,
                "texts": len(texts),
                "answer_tokens": sum(len(one.answer) for one in texts),
            },
            "training": {**self._trained, "machine": _machine(), "curve": self._curve},
            "settings": {**dataclasses.asdict(self._settings), "layers": list(self._layers())},
            "held_out_prompts": len(exam.greedy.texts),
            "agreement": grades,
            "step_time": {"dtype": self.target.dtype, **times},
        }

    def write(self, out: Path, draft: Any, vocabulary: VocabularyMap, card: dict[str, Any]) -> None:
        """The folder, complete from its first moment; an older draft there is replaced."""
        out.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
        try:
            fresh = scratch / "new"
            draft.set_attn_implementation("sdpa")
            with quiet():
                draft.save_pretrained(fresh)
            vocabulary.save(fresh)
            self._copy_tokenizer(fresh / TOKENIZER_FOLDER, vocabulary)
            write_json(fresh / CARD_FILE, card)
            if out.exists():
                out.rename(scratch / "old")
            fresh.rename(out)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    @property
    def target(self) -> HuggingFaceModel:
        if self._target is None:
            import torch

            # Teacher's logits and exam are worth full precision; CPUs without bfloat16 are faster in it too.
            dtype = "bfloat16" if torch.cuda.is_available() else "float32"
            self._target = HuggingFaceModel.load(self._source.folder, dtype=dtype)
        return self._target

    def _module(self) -> Any:
        """The target as transformers has it, in float32."""
        import torch

        return read_module(self._source, torch.float32, "cpu")

    def _layers(self) -> tuple[int, ...]:
        if self._settings.layers:
            return self._settings.layers
        config = read_json(self._source.folder / "config.json")
        config = config.get("text_config", config)
        return default_layers(int(config.get("num_hidden_layers") or config.get("n_layer") or 1))

    def _ready_texts(self, path: Path) -> tuple[list[Text], list[tuple[int, ...]]]:
        found = read_texts(path)
        held = _num_held_out(len(found), self._settings)
        if len(found) <= held:
            raise ModelError(f"{path} holds too few texts: at least two are needed, one of them for the exam")
        training: list[Text] = []
        left = self._settings.tokens
        for one in found[held:]:
            if left <= 0:
                break
            training.append(one)
            left -= len(one.answer)
        return training, [one.prompt for one in found[:held]]

    def _untrained(self, vocabulary: VocabularyMap) -> Any:
        """The draft before its first step."""
        import torch

        draft = build_draft(self._module(), self._layers(), vocabulary.kept, vocabulary.eos_ids)
        return draft.to("cuda") if torch.cuda.is_available() else draft

    def _mark(self, draft: Any, vocabulary: VocabularyMap, exam: Exam) -> float:
        paper = exam.greedy
        some = Paper(paper.temperature, paper.seed, paper.texts[:CURVE_TEXTS])
        return grade(_as_model(draft, vocabulary), some).agreement

    def _copy_tokenizer(self, folder: Path, vocabulary: VocabularyMap) -> None:
        names = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "chat_template.json")
        found = [self._source.folder / name for name in names if (self._source.folder / name).is_file()]
        if found:
            folder.mkdir()
            for path in found:
                shutil.copyfile(path, folder / path.name)
            write_json(folder / "generation_config.json", {"eos_token_id": sorted(vocabulary.eos_ids)})

    def _check_state(self) -> None:
        """A state folder belongs to one target and one set of fixed settings."""
        path = self._state / "settings.json"
        now: dict[str, Any] = {"target": str(self._source.folder.resolve())}
        now |= {name: getattr(self._settings, name) for name in FIXED}
        now["layers"] = list(self._settings.layers)
        before = read_json(path)
        if not before:
            write_json(path, now)
        for name, value in before.items():
            if now.get(name) != value:
                raise ModelError(
                    f"the work in {self._state} was begun with {name} {value}, not {now.get(name)}; "
                    "go on with that, name another --out, or delete the folder"
                )


def _as_model(draft: Any, vocabulary: VocabularyMap) -> TrimmedModel:
    """A copy of the draft that can be asked: a model takes its module for itself."""
    module = copy.deepcopy(draft)
    return TrimmedModel(HuggingFaceModel(module, name="draft"), vocabulary)


def _num_held_out(available: int, settings: DistillSettings) -> int:
    """Of few prompts, a tenth."""
    return min(settings.held_out, max(1, available // 10))


def _special_ids(module: Any) -> frozenset[int]:
    config = module.config.get_text_config()
    found = [getattr(config, name, None) for name in ("bos_token_id", "pad_token_id")]
    return frozenset(token for token in found if isinstance(token, int) and token >= 0)


def _machine() -> str:
    import torch

    threads = torch.get_num_threads()
    return f"{platform.system()} {platform.machine()}, {threads} threads, torch {torch.__version__}"
