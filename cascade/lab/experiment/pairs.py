"""The models of a run: synthetic, paced (recorded real text with declared costs), or real."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Protocol

from ...decoding import Sampling, pick_rows
from ...errors import ModelError, SettingsError
from ...models.base import Feed, LanguageModel
from ...models.paced import PacedDraft, PacedTarget, RecordedText, Recording, read_recording
from ...models.runner import PacedRunner, Runner, ThreadRunner, constant_cost
from ...models.synthetic import BetaAgreement, SyntheticDraft, SyntheticTarget
from ..cores import two_cores
from .settings import ModelSettings

__all__ = ["Pair", "Request", "find_recording", "own_picks", "pair_of"]

SHIPPED = Path(__file__).parents[1] / "recordings"


@dataclass(frozen=True, slots=True)
class Request:
    """What a device asks for."""

    prompt: list[int]
    max_new_tokens: int


class Pair(Protocol):
    """A target, a draft for each device, what their steps take, and what is asked."""

    @property
    def target(self) -> LanguageModel: ...

    def draft(self) -> LanguageModel: ...

    def edge_runner(self) -> Runner: ...

    def device_runner(self) -> Runner: ...

    def request(self, device: int, turn: int, num_tokens: int) -> Request: ...


def pair_of(models: ModelSettings, seed: int, folder: str) -> Pair:
    """Reads files and loads weights, so before the loop runs. `folder`: where relative paths begin."""
    match models.kind:
        case "synthetic":
            return _SyntheticPair(models, seed)
        case "paced":
            return _PacedPair(models, seed, find_recording(models.recording, folder))
        case _:
            return _RealPair(models, seed, find_recording(models.recording, folder))


def find_recording(name: str, folder: str) -> Recording:
    """A shipped one by name, or a file."""
    shipped = SHIPPED / f"{name}.json.gz"
    if name.endswith(".gz"):
        path = Path(folder) / name
    elif shipped.is_file():
        path = shipped
    else:
        known = ", ".join(sorted(path.name.removesuffix(".json.gz") for path in SHIPPED.glob("*.json.gz")))
        raise SettingsError(
            "recording", f"there is no {name!r}; shipped are {known}, or name a .json.gz file"
        )
    try:
        return _read(path)
    except ModelError as error:
        raise SettingsError("recording", str(error)) from None


def own_picks(target: LanguageModel, prompt: Sequence[int], tokens: Sequence[int]) -> list[bool]:
    """The replay: is each token the target's own pick, given all before it?"""
    sequence = target.new_sequence()
    logits = target.forward([Feed(sequence, [*prompt, *tokens[:-1]], len(tokens))])
    sequence.release()
    positions = range(len(prompt), len(prompt) + len(tokens))
    picks = pick_rows(logits, [Sampling()] * len(tokens), positions).tolist()
    return [token == pick for token, pick in zip(tokens, picks, strict=True)]


@cache
def _read(path: Path) -> Recording:
    return read_recording(path)


class _Declared:
    """Steps that take what the experiment says."""

    def __init__(self, models: ModelSettings) -> None:
        self._models = models

    def edge_runner(self) -> Runner:
        return PacedRunner(self._models.pass_s)

    def device_runner(self) -> Runner:
        return PacedRunner(constant_cost(self._models.draft_step_ms / 1000))


class _SyntheticPair(_Declared):
    def __init__(self, models: ModelSettings, seed: int) -> None:
        super().__init__(models)
        self._seed = seed
        self.target = SyntheticTarget(seed=seed)

    def draft(self) -> SyntheticDraft:
        models = self._models
        agreement: float | BetaAgreement = models.agreement
        if models.concentration:
            agreement = BetaAgreement(mean=models.agreement, concentration=models.concentration)
        return SyntheticDraft(self.target, agreement=agreement, seed=self._seed + 1)

    def request(self, device: int, turn: int, num_tokens: int) -> Request:
        prompt = [1 + (self._seed + device) % 60, 1 + device // 60 % 60, 1 + turn % 60]
        return Request(prompt, num_tokens)


class _Recorded:
    """Asks for recorded texts, in turns."""

    def __init__(self, seed: int, recording: Recording) -> None:
        self._seed = seed
        self.recording = recording

    def _text(self, device: int, turn: int) -> RecordedText:
        texts = self.recording.texts
        return texts[(self._seed + 7 * device + turn) % len(texts)]

    def request(self, device: int, turn: int, num_tokens: int) -> Request:
        text = self._text(device, turn)
        return Request(list(text.prompt), min(num_tokens, len(text.answer)))


class _PacedPair(_Declared, _Recorded):
    def __init__(self, models: ModelSettings, seed: int, recording: Recording) -> None:
        _Declared.__init__(self, models)
        _Recorded.__init__(self, seed, recording)
        self.target = PacedTarget(recording)
        self._draft = PacedDraft(recording)

    def draft(self) -> PacedDraft:
        return self._draft  # what it knows is in its sequences


class _RealPair(_Recorded):
    """One core for the edge, and one that all devices share: as if it were elsewhere."""

    def __init__(self, models: ModelSettings, seed: int, recording: Recording) -> None:
        import torch

        from ...models.loading import check_same_vocabulary

        super().__init__(seed, recording)
        self.target, self._draft = _open(models.target), _open(models.draft)
        check_same_vocabulary(self.target, self._draft)
        if self.target.vocab_fingerprint != recording.vocab_fingerprint:
            raise SettingsError("recording", "its prompts are not in the target's vocabulary; record others")
        torch.set_num_threads(1)
        self._edge_core, device_core = two_cores()
        self._device_runner = ThreadRunner("lab-devices", core=device_core)

    def draft(self) -> LanguageModel:
        return self._draft

    def edge_runner(self) -> Runner:
        return ThreadRunner("lab-edge", core=self._edge_core)

    def device_runner(self) -> Runner:
        return self._device_runner


@cache
def _open(name: str) -> LanguageModel:
    """Loaded once in a process, whatever the number of runs."""
    from ...models.loading import open_model

    return open_model(name)
