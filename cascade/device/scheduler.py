"""A stream's scheduler: what was measured and what the app wants become decisions.

The decisions are pure functions (`planning.py`, `window.py`); this keeps the estimates that they are made
from, one stream's view of them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

from ..decoding import chance_of_all, one_more
from ..errors import SettingsError
from ..measure import Confidence, Knowledge
from ..prices import Prices, Usage
from .guesses import Judgement
from .planning import Circumstances, Plan, make_plan
from .policy import Policy, Rule
from .window import SendClock, farness, num_worth_sending, stands_in_the_way, wants_one_more

__all__ = ["Scheduler"]

PLAN_EVERY = 4
"""Commits after which the plan is made anew."""
PROBE_EVERY = 64
"""Tokens streamed plainly, where drafting does not pay, before a few are drafted: perhaps it does now."""
PROBE_WINDOW = 4
NUM_PROBED = 16
"""Verdicts of a probe."""
WISH_CHANGE = 0.25
"""A wish for patience that differs by less than this share is not worth a message."""
LATE_S = 0.002
"""A commit that is later than this is not waited for."""
MAX_FED = 16
"""Hints that an edge is taken to feed in one pass, at most."""
ROUNDING_S = 0.001
"""Stamps are in milliseconds."""
EAGER = Policy(window=1, patience_s=0.0, min_sent_chance=0.012, min_hope=0.25)
"""What is worth sending where nobody waits: even long shots, for they may save a round trip."""
LIVELY_MEMORY, STEADY_MEMORY = 128.0, 256.0
"""Verdicts that count for the agreement: a fixed policy has no plan that would profit from quick news."""
SHARE_EVERY = 16
"""Commits after which the device's other streams get to know what this one has learnt about the draft."""


@dataclass(slots=True)
class _Chained:
    """An undecided guess."""

    confidence: Confidence
    place: int
    chance: float
    is_kept: bool = False
    sent_s: float | None = None

    @property
    def survival(self) -> float:
        """The chance that it stays in the text: a kept token does, whatever the edge would have said."""
        return 1.0 if self.is_kept else self.chance


class Scheduler:
    """Decides for one stream."""

    def __init__(self, policy: Policy, knowledge: Knowledge) -> None:
        self.policy = policy
        """As it is now: an adaptive one changes with the circumstances."""
        self._prices = policy.prices
        self._rule = policy.rule
        self._first_policy = policy
        self._knowledge = knowledge
        memory = STEADY_MEMORY if policy.prices is None else LIVELY_MEMORY
        self._agreement = knowledge.agreement.fork(memory=memory)
        self._calibration = knowledge.calibration.fork()
        self._chain: list[_Chained] = []
        self._chance_of_chain = 1.0
        self._clock: SendClock | None = None
        self._far = 1.0
        self._commit_s: float | None = None
        """When the last commit came."""
        self._is_surprised = False
        self._num_fed = 0
        """Hints that the edge had when that left."""
        self._num_in_pass = 0
        """Hints that the pass which runs now, or begins when ours arrive, has been fed, as far as we know."""
        self._plan: Plan | None = None
        self._num_commits = 0
        self._num_until_probe = PROBE_EVERY
        self._num_probed = 0

    # What it is told

    def note_guess(self, confidence: Confidence, *, is_kept: bool = False) -> None:
        place, chance = len(self._chain), self.chance_of(confidence)
        chained = _Chained(confidence, place, chance, is_kept)
        self._chain.append(chained)
        self._chance_of_chain *= chained.survival

    def note_kept(self, place: int) -> None:
        """A guess that was open is not any more: the device has decided it."""
        self._chain[place].is_kept = True
        self._chance_of_chain = chance_of_all(chained.survival for chained in self._chain)

    def note_verdict(self, judgement: Judgement, num_tokens: int) -> None:
        """A commit of `num_tokens` judged some of the chain."""
        for chained, is_agreed in zip(self._chain, judgement.verdicts, strict=False):
            self._calibration.learn(chained.confidence, chained.place, is_agreed=is_agreed)
        verdicts = (judgement.num_agreed, judgement.num_disagreed)
        for agreement in (self._agreement, self._knowledge.agreement):
            agreement.add(num_agreed=verdicts[0], num_disagreed=verdicts[1])
        if judgement.changed_from is not None:
            self._chain.clear()
        else:
            del self._chain[:num_tokens]
        self._chance_of_chain = chance_of_all(chained.survival for chained in self._chain)
        self._count_probe(sum(verdicts), num_tokens)

    def note_sent(self, now_s: float, *, num_sent: int) -> None:
        """So many guesses of the chain are on their way, or there."""
        for chained in self._chain[:num_sent]:
            if chained.sent_s is None:
                chained.sent_s = now_s

    def note_pass(self, seconds: float) -> None:
        """The edge says how long the pass took whose commit has come."""
        self._knowledge.passes.add_said(seconds, self._num_fed)

    def note_commit(self, now_s: float) -> None:
        """The edge is half a round trip into its next pass. `SettingsError`: a rule of the app's failed."""
        link, passes = self._knowledge.link, self._knowledge.passes
        if link.rtt_s is None or passes.mean_s is None:
            return
        if self._commit_s is not None and (self._num_fed or not self.policy.patience_s):
            self._is_surprised = not passes.add_gap(now_s - self._commit_s, self._num_fed)
        self._commit_s = now_s
        there_s = now_s - link.rtt_s + ROUNDING_S  # sent before this it was there when the pass began
        self._num_fed = 0
        for chained in self._chain[:MAX_FED]:
            if chained.sent_s is None or chained.sent_s > there_s:
                break
            self._num_fed += 1
        self._num_in_pass = self._num_fed
        self._far = farness(link.rtt_s, passes.mean_s)
        self._clock = SendClock.after_commit(
            now_s,
            rtt_s=link.rtt_s,
            jitter_s=link.jitter_s,
            first_s=passes.expect_s(self._num_fed),
            step_s=passes.base_s,
        )
        if self._is_patient and self._num_fed == 0 and self._chain and self._chain[0].sent_s is not None:
            first_s = self._chain[0].sent_s
            self._note_wake(first_s, sum(chained.sent_s == first_s for chained in self._chain[:MAX_FED]))
        if self._num_commits % PLAN_EVERY == 0:
            if self._rule is not None:
                self._follow(self._rule)
            elif self._prices is not None:
                self._adapt(self._prices)
        self._num_commits += 1
        if self._num_commits % SHARE_EVERY == 0:
            self._knowledge.calibration.adopt(self._calibration)

    def _note_wake(self, sent_s: float, num_hints: int) -> None:
        """The edge waits for hints of ours: its pass begins when those arrive that went out then."""
        if self._clock is not None:
            self._num_in_pass = num_hints
            self._clock = self._clock.after_wake(sent_s, self._knowledge.passes.expect_s(num_hints))

    # What it decides

    @property
    def _is_patient(self) -> bool:
        """The edge waits long enough for an answer of ours to what it says."""
        return self.policy.patience_s > (self._knowledge.link.rtt_s or 0.0)

    @property
    def wants_stamp(self) -> bool:
        """The link seems not to be as it was: ask, and do not wait for the time to ask anyway."""
        return self._is_surprised or self._knowledge.link.is_in_doubt

    @property
    def chance_of_next(self) -> float:
        """That the next guess, not drafted yet, is confirmed, if all before it are."""
        return self._agreement.chance

    def chance_of(self, confidence: Confidence) -> float:
        """That the edge would say the same behind the chain, all of which is confirmed."""
        return self._calibration.chance(confidence, len(self._chain))

    @property
    def survival(self) -> float:
        """The chance that the whole chain stays in the text."""
        return self._chance_of_chain

    @property
    def chances(self) -> list[float]:
        """Of each guess that no commit has judged: that it is confirmed, if all before it are."""
        if self._prices is None:  # a fixed policy knows one rate
            return [self._agreement.chance] * len(self._chain)
        return [chained.chance for chained in self._chain]

    def wants_one_more(self, *, num_sent: int) -> bool:
        if self._prices is None:
            chance = self.chance_of_next ** (len(self._chain) + 1)
        else:
            chance = self._chance_of_chain * self.chance_of_next
        if not wants_one_more(
            self.policy, num_chained=len(self._chain), num_sent=num_sent, chance=chance, far=self._far
        ):
            return False
        plan, step_s = self._plan, self._knowledge.draft_step_s.value
        if self._prices is None or plan is None or step_s is None or not plan.does_pay:
            return True
        cost_s = self._prices.in_waiting_s(Usage(draft_s=step_s, num_drafted=1))
        return one_more(chance, rate_tokens_per_s=1 / plan.s_per_token, cost_s=cost_s)

    def draft_at_s(self, now_s: float) -> float:
        """When the next step should begin: not now, if it is likely to be in the way of a correction's.

        A commit may be a little late; one that is due now is waited for.
        """
        link, step_s = self._knowledge.link, self._knowledge.draft_step_s.value
        if self._prices is None or self._clock is None or step_s is None or link.rtt_s is None:
            return now_s
        if link.jitter_s > step_s / 2:
            return now_s  # nobody knows when the commit comes
        commit_s = self._clock.next_commit_s(now_s - LATE_S, rtt_s=link.rtt_s)
        if now_s + step_s <= commit_s:
            return now_s  # it is over before the commit comes
        judged = [chained.survival for chained in self._chain[: self._num_in_pass + 1]]
        num_undrafted = self._num_in_pass + 1 - len(judged)
        chance = self.chance_of_next
        is_in_the_way = stands_in_the_way(
            now_s,
            step_s,
            commit_s=commit_s,
            deadline_s=self._clock.next_send_s(commit_s + step_s),
            chance_of_next=chance,
            chance_alive=chance_of_all(judged) * chance**num_undrafted,
            chance_used=self._chance_of_chain * chance,
        )
        return commit_s + LATE_S if is_in_the_way else now_s

    def num_worth_sending(self, *, num_sent: int) -> int:
        survivals = [
            1.0 if chained.is_kept else chance
            for chained, chance in zip(self._chain, self.chances, strict=True)
        ]
        return num_worth_sending(
            self.policy,
            chance_of_sent=chance_of_all(survivals[:num_sent]),
            chances=survivals[num_sent:],
            far=self._far,
        )

    def send_at_s(self, now_s: float, *, num_sent: int, can_draft: Callable[[], bool]) -> float | None:
        """When the guesses that were not sent yet are to go; None: not before something else happens."""
        if self.policy.waits_for_verdict:
            return None if can_draft() else now_s
        if self._clock is None:
            return now_s
        # The edge stands waiting, or is going to when it has taken what it has. The second costs messages,
        # and a fixed policy that is patient is so for the sake of few bytes.
        num_taken = self._num_in_pass + 1 if num_sent else 0
        runs_dry = self._prices is not None and num_sent <= num_taken and now_s > self._clock.deadline_s
        if self._is_patient and (num_sent == 0 or runs_dry):
            num_waited_for = len(self._chain) - num_taken
            if num_waited_for < (self.policy.num_gathered if can_draft() else 1):
                return None
            if num_sent == 0:
                self._note_wake(now_s, min(num_waited_for, MAX_FED))
            return now_s
        if not self.num_worth_sending(num_sent=num_sent):
            return None
        return self._clock.next_send_s(now_s)

    # How it adapts

    @property
    def circumstances(self) -> Circumstances | None:
        """None while too little is known."""
        known = self._knowledge
        pass_s = known.passes.base_s
        if known.link.rtt_s is None or not pass_s or known.draft_step_s.value is None:
            return None
        return Circumstances(
            rtt_s=known.link.rtt_s,
            jitter_s=known.link.jitter_s,
            pass_s=pass_s,
            draft_step_s=max(known.draft_step_s.value, 1e-5),
            agreement=self._agreement.chance,
            hint_s=known.passes.hint_s,
            load=known.load.share,
        )

    def _follow(self, rule: Rule) -> None:
        circumstances = self.circumstances
        if circumstances is None or self._knowledge.link.is_in_doubt:
            return
        try:
            policy = rule(circumstances)
        except Exception as error:
            raise SettingsError("policy", f"its rule failed: {error!r}") from error
        if not isinstance(policy, Policy) or policy.waits_for_verdict or policy.prices or policy.rule:
            text = f"its rule must return Policy.hint_driven(...) or Policy.cloud(), not {policy!r}"
            raise SettingsError("policy", text)
        self.policy = policy

    def _adapt(self, prices: Prices) -> None:
        circumstances = self.circumstances
        if circumstances is None or self._knowledge.link.is_in_doubt:
            return
        self._plan = plan = make_plan(circumstances, prices, does_wait=self.policy.patience_s > 0)
        if not plan.does_pay:
            is_probing = self._num_until_probe <= 0
            self.policy = dataclasses.replace(
                self._first_policy, window=PROBE_WINDOW if is_probing else 0, patience_s=0.0
            )
            return
        self._num_until_probe = PROBE_EVERY
        is_patient = plan.patience_s > 0
        thresholds = Policy.hint_driven(patience_s=plan.patience_s) if is_patient else EAGER
        patience_s, num_gathered = plan.patience_s, plan.num_gathered
        if is_patient and abs(patience_s / (self.policy.patience_s or 1e-9) - 1) < WISH_CHANGE:
            patience_s, num_gathered = self.policy.patience_s, self.policy.num_gathered
        self.policy = dataclasses.replace(
            self._first_policy,
            patience_s=patience_s,
            num_gathered=num_gathered,
            min_chance=0.0,
            min_sent_chance=thresholds.min_sent_chance,
            min_hope=thresholds.min_hope,
        )

    def _count_probe(self, num_judged: int, num_tokens: int) -> None:
        """Where drafting does not pay: stream plainly for a while, probe, and so on."""
        if self._plan is None or self._plan.does_pay:
            return
        if self._num_until_probe > 0:
            self._num_until_probe -= num_tokens
            self._num_probed = 0
        else:
            self._num_probed += num_judged
            if self._num_probed >= NUM_PROBED:
                self._num_until_probe = PROBE_EVERY
