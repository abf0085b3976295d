"""Does the draft say what the target says? Asked on prompts that no training has seen.

The target answers them twice: greedily, and at T = 0.8 with noise whose seeds are written down. A draft
agrees at a position if, given everything before it, it picks the same token under the same noise. A drafter's
window is judged by the same bits: when all guesses before one were right, it saw just this text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ...decoding import Sampling, pick_rows
from ..base import Feed, LanguageModel
from .files import read_json, write_json
from .generation import continue_all
from .texts import Text, packed

if TYPE_CHECKING:
    from ..huggingface import HuggingFaceModel

__all__ = ["WINDOW", "Exam", "Grades", "Paper", "grade", "set_exam"]

WINDOW = 8
"""Guesses in a row that are reported."""

PASS_ROWS = 512


@dataclass(frozen=True, slots=True)
class Paper:
    """Answers of the target under one kind of sampling; text i has its seed plus i."""

    temperature: float
    seed: int
    texts: tuple[Text, ...]

    def sampling(self, index: int) -> Sampling:
        return Sampling(temperature=self.temperature, seed=self.seed + index)


@dataclass(frozen=True, slots=True)
class Exam:
    """Both papers."""

    greedy: Paper
    sampled: Paper

    def save(self, path: Path) -> None:
        write_json(path, {name: _plain(getattr(self, name)) for name in ("greedy", "sampled")})

    @classmethod
    def load(cls, path: Path) -> Exam:
        value = read_json(path)
        return cls(_paper(value["greedy"]), _paper(value["sampled"]))


@dataclass(frozen=True, slots=True)
class Grades:
    """How often a draft agrees on one paper."""

    agreement: float
    """Of single tokens, everything before them being the target's."""
    by_position: tuple[float, ...]
    """The i-th guess of a window, all before it being right: WINDOW shares."""
    tokens: int

    def as_json(self) -> dict[str, Any]:
        return {
            "agreement": round(self.agreement, 4),
            "by_position_in_window": [round(share, 4) for share in self.by_position],
            "tokens": self.tokens,
        }


def set_exam(
    target: HuggingFaceModel,
    prompts: Sequence[Sequence[int]],
    max_tokens: int,
    seed: int,
    on_step: Callable[[int], None] | None = None,
) -> Exam:
    """Let the target answer the prompts both ways; `on_step` hears how many tokens there are."""
    papers: list[Paper] = []

    def count(num_tokens: int) -> None:
        if on_step is not None:
            on_step(num_tokens + sum(len(text.answer) for paper in papers for text in paper.texts))

    for temperature in (0.0, 0.8):
        samplings = [Sampling(temperature=temperature, seed=seed + index) for index in range(len(prompts))]
        answers = continue_all(target, prompts, samplings, max_tokens, count)
        texts = tuple(Text(tuple(p), answer) for p, answer in zip(prompts, answers, strict=True))
        papers.append(Paper(temperature, seed, texts))
    return Exam(*papers)


def grade(draft: LanguageModel, paper: Paper) -> Grades:
    """Mark one paper."""
    right: list[npt.NDArray[np.bool_]] = [np.zeros(0, dtype=np.bool_)] * len(paper.texts)
    for group in packed([len(text.tokens) - 1 for text in paper.texts], PASS_ROWS):
        texts = [paper.texts[index] for index in group]
        feeds = [Feed(draft.new_sequence(), text.tokens[:-1], len(text.answer)) for text in texts]
        logits = draft.forward(feeds)
        samplings: list[Sampling] = []
        positions: list[int] = []
        for index, text in zip(group, texts, strict=True):
            samplings += [paper.sampling(index)] * len(text.answer)
            positions += range(len(text.prompt), len(text.tokens))
        picks = pick_rows(logits, samplings, positions)
        at = 0
        for index, text, feed in zip(group, texts, feeds, strict=True):
            right[index] = picks[at : at + len(text.answer)] == np.array(text.answer)
            at += len(text.answer)
            feed.sequence.release()
    all_bits = np.concatenate(right)
    return Grades(float(all_bits.mean()), _by_position(right), len(all_bits))


def _by_position(right: Sequence[npt.NDArray[np.bool_]]) -> tuple[float, ...]:
    """Over windows that begin at every token: share of right i-th guesses among those that got so far."""
    shares = []
    reached = [np.ones(len(bits), dtype=np.bool_) for bits in right]
    for i in range(WINDOW):
        alive = sum(int(so_far[: max(0, len(so_far) - i)].sum()) for so_far in reached)
        for so_far, bits in zip(reached, right, strict=True):
            num = max(0, len(bits) - i)
            so_far[:num] &= bits[i:]
            so_far[num:] = False
        shares.append(sum(int(so_far.sum()) for so_far in reached) / alive if alive else 0.0)
    return tuple(shares)


def _plain(paper: Paper) -> dict[str, Any]:
    texts = [{"p": text.prompt, "r": text.answer} for text in paper.texts]
    return {"temperature": paper.temperature, "seed": paper.seed, "texts": texts}


def _paper(value: dict[str, Any]) -> Paper:
    texts = tuple(Text(tuple(text["p"]), tuple(text["r"])) for text in value["texts"])
    return Paper(float(value["temperature"]), int(value["seed"]), texts)
