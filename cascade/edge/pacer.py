"""What pacing has to know: measured on the way, and turned into plain numbers for `plan_pass`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..measure import CostCurve
from .decode import Decode, PlannedStep
from .pacing import NEVER_S, Candidate, due_from_s, plan_pass
from .prefill import share_rows
from .settings import EdgeSettings
from .shares import Shares

__all__ = ["Pacer", "Part"]


@dataclass(frozen=True, slots=True)
class Part:
    """What one text takes part with in one pass."""

    num_hints: int
    num_prefilled: int
    """At most so many of the tokens that its cache lacks."""


class Pacer:
    """The engine's own cost curve and accounts; the engine tells what happened, and asks whom to step."""

    def __init__(self, settings: EdgeSettings) -> None:
        self.curve = CostCurve()
        self._settings = settings
        self._shares = Shares()
        self._row_price = 0.0
        self._held: dict[str, float] = {}
        """Owners that had all that their rate allows, and until when they are left out."""

    @property
    def held_until_s(self) -> float:
        """When the first of those that are left out is let in again."""
        return min(self._held.values(), default=NEVER_S)

    def hold(self, owner: str, until_s: float) -> None:
        """Leave out this owner's texts until then."""
        self._held[owner] = until_s

    def sort(self, decodes: Iterable[Decode], now_s: float) -> tuple[list[Decode], list[Decode]]:
        """Those that are due, and those that rather wait for hints. Nobody else may be stepped now."""
        self._held = {owner: until_s for owner, until_s in self._held.items() if until_s > now_s}
        due: list[Decode] = []
        waiting: list[Decode] = []
        for decode in decodes:
            if self._may_step(decode):
                is_due = not decode.patience_s or due_from_s(self._candidate(decode), self.curve) <= now_s
                (due if is_due else waiting).append(decode)
        return due, waiting

    def choose(
        self, due: Sequence[Decode], waiting: Sequence[Decode], now_s: float, *, may_hold: bool
    ) -> tuple[dict[Decode, Part], float]:
        """Who takes part in the next pass, with what, and when it should begin.

        `due` are those for which there is memory.
        """
        prefills = self._share_prefill([decode for decode in due if decode.num_prefill])
        able = [decode for decode in due if prefills.get(decode, 1)] + list(waiting)
        candidates = [self._candidate(decode, prefills.get(decode, 0)) for decode in able]
        plan = plan_pass(
            candidates,
            self.curve,
            self._shares.standing({one.owner for one in candidates}, now_s),
            now_s=now_s,
            max_fed_hints=self._settings.max_fed_hints,
            fairness=self._settings.fairness,
            may_hold=may_hold,
        )
        self._row_price = plan.row_price
        parts = {
            able[index]: Part(num_hints, prefills.get(able[index], 0))
            for index, num_hints in plan.fed.items()
        }
        return parts, plan.begin_at_s

    def note_pass(self, num_rows: int, seconds: float) -> None:
        self.curve.add(num_rows, seconds)

    def note_step(self, step: PlannedStep, *, num_tokens: int, now_s: float) -> None:
        """A text was stepped. What was prefilled counts at what its rows cost the others."""
        self._shares.charge(step.decode.owner, num_tokens + step.num_prefill * self._row_price, now_s)

    def _may_step(self, decode: Decode) -> bool:
        """Not while too much of it is unacknowledged: the device may be gone, and what it cannot have seen
        costs passes."""
        if decode.is_finished or decode.is_running or decode.is_held or decode.owner in self._held:
            return False
        return decode.head - decode.known < self._settings.run_ahead

    def _share_prefill(self, lacking: Sequence[Decode]) -> dict[Decode, int]:
        """A chunk, shared among owners; of the texts of one owner, the one that is nearest to its first token
        goes first."""
        owners: dict[str, list[Decode]] = {}
        for decode in sorted(lacking, key=lambda decode: decode.num_prefill):
            owners.setdefault(decode.owner, []).append(decode)
        by_waiting = sorted(owners.values(), key=lambda texts: max(text.prefilled_s for text in texts))
        wanted = [sum(text.num_prefill for text in texts) for texts in by_waiting]
        shares = share_rows(wanted, self._settings.prefill_chunk_rows)
        rows: dict[Decode, int] = {}
        for texts, left in zip(by_waiting, shares, strict=True):
            for text in texts:
                rows[text] = min(text.num_prefill, left)
                left -= rows[text]
        return rows

    def _candidate(self, decode: Decode, num_prefilled: int = 0) -> Candidate:
        is_partial = 0 < num_prefilled < decode.num_prefill
        num_hints = min(decode.hints.num_usable, decode.request.length_limit - decode.head - 1)
        return Candidate(
            owner=decode.owner,
            num_rows=num_prefilled + (not is_partial),
            num_hints=0 if is_partial else num_hints,
            agreement=decode.outlook.agreement,
            waiting_since_s=max(decode.last_step_s, decode.prefilled_s),
            patience_s=decode.patience_s if decode.gains_by_waiting and not num_prefilled else 0.0,
            goal_s_per_token=self._settings.goal_s_per_token or NEVER_S,
            hints_at_s=decode.outlook.hints_at_s,
        )
