"""How often a draft agrees with its target on prompts that no training has seen, and what its step costs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from ..learning import recorded_errors
from ..progress import must

if TYPE_CHECKING:
    from cascade.models.distill.exam import Exam

__all__ = ["examine", "run"]

DRAFT = "smollm2-135m-draft"
TARGET = "smollm2-135m"
ANSWER_TOKENS = 160
SEED = 1
QUICK_PROMPTS = 8
NUM_LEARNT, QUICK_LEARNT = 2000, 500
"""Tokens, of answers of either kind in turns; the chances are judged on all others."""


def run(*, quick: bool = False, draft: str = DRAFT, target: str = TARGET) -> dict[str, Any]:
    """The target answers the draft's held-out prompts afresh, in bfloat16; the draft is judged in int8.

    Needs the target (cascade models fetch). `quick` takes a few of the prompts. Step times are medians of
    passes in turns, both models in the same format on one thread, in processor time.
    """
    from cascade.models.distill.exam import set_exam
    from cascade.models.distill.result import held_out_prompts
    from cascade.models.huggingface import HuggingFaceModel

    prompts = held_out_prompts(draft)
    prompts = prompts[:QUICK_PROMPTS] if quick else prompts
    teacher = HuggingFaceModel.load(target, dtype="bfloat16", device="cpu")
    exam = set_exam(teacher, prompts, ANSWER_TOKENS, SEED)
    num_learnt, repeats = (QUICK_LEARNT, 15) if quick else (NUM_LEARNT, 45)
    figures = examine(draft, target, exam, repeats, num_learnt=num_learnt)
    return {**figures, "musts": _musts(figures, num_learnt)}


def _musts(figures: dict[str, Any], num_learnt: int) -> list[dict[str, Any]]:
    agreement = figures["agreement"]["greedy"]["agreement"]
    error = figures["calibration"]["expected_calibration_error"]
    steps = min(times["target_over_draft"] for times in figures["step_time"].values())
    return [
        must("agreement on greedy answers", agreement, at_least=0.55),
        must("steps of the draft in a row of the target, same format", steps, at_least=6),
        must(f"calibration error after {num_learnt} tokens", error, at_most=0.05),
    ]


def examine(
    draft: str, target: str, exam: Exam, repeats: int, *, num_learnt: int = NUM_LEARNT
) -> dict[str, Any]:
    """Grades on papers that are written already, and step times."""
    import torch

    from cascade.models.distill.exam import grade
    from cascade.models.distill.steptime import step_times
    from cascade.models.loading import open_model

    pupil = open_model(draft, dtype="int8", device="cpu")
    papers = {"greedy": exam.greedy, "temperature_0.8": exam.sampled}
    agreement = {name: grade(pupil, paper).as_json() for name, paper in papers.items()}
    calibration = recorded_errors(pupil, [exam.greedy, exam.sampled], num_learnt=num_learnt)
    step_time = {}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for dtype in ("bfloat16", "int8"):
        models = [open_model(name, dtype=dtype, device="cpu") for name in (draft, target)]
        step_time[dtype] = step_times(models[0], models[1], time.process_time, repeats)
    torch.set_num_threads(threads)
    return {
        "draft": draft,
        "target": target,
        "held_out_prompts": len(exam.greedy.texts),
        "threads": 1,
        "torch": torch.__version__,
        "agreement": agreement,
        "calibration": {name: round(value, 4) for name, value in calibration.items()},
        "step_time": step_time,
    }
