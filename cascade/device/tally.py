"""What a stream counts about itself, for its summary."""

from __future__ import annotations

from ..events import Account, Source, Summary
from ..measure import LinkEstimator

__all__ = ["Mean", "Tally"]


class Mean:
    """Of all values, evenly."""

    __slots__ = ("_count", "_total")

    def __init__(self) -> None:
        self._count = 0
        self._total = 0.0

    @property
    def value(self) -> float | None:
        return self._total / self._count if self._count else None

    def add(self, value: float) -> None:
        self._count += 1
        self._total += value


class Tally:
    """Counts while the stream runs; `summary` says what came of it."""

    def __init__(self, started_s: float, *, is_plain: bool) -> None:
        """`is_plain`: this is plain streaming, without hints."""
        self.num_drafted = 0
        self.num_at_once = 0
        self.num_provisional = self.num_revised = 0
        self.num_passes = 0
        self.num_disputed = 0
        self.num_opens = 0
        self.bytes_up = 0
        self.bytes_down = 0
        self.finish_reason = ""
        self.pass_s = Mean()
        self.queue_s = Mean()
        self._step_s = Mean()
        self._waited_s = Mean()
        self._is_plain = is_plain
        self._num_tokens = 0
        self._num_by_source = dict.fromkeys(Source, 0)
        self._started_s = self._first_s = self._last_s = started_s

    def count_token(self, source: Source, now_s: float) -> None:
        if self._num_tokens + self.num_revised == 0:
            self._first_s = now_s
        self._last_s = now_s
        self._num_tokens += 1
        self._num_by_source[source] += 1

    def count_step(self, seconds: float, *, waited_s: float) -> None:
        """A draft step took so long, and waited for the processor for that part of it."""
        self.num_drafted += 1
        self._step_s.add(seconds)
        self._waited_s.add(waited_s)

    def withdraw(self, num_tokens: int) -> None:
        """Tokens that the device had decided for want of an edge."""
        self.num_revised += num_tokens
        self._num_tokens -= num_tokens
        self._num_by_source[Source.KEPT] -= num_tokens

    @property
    def num_tokens(self) -> int:
        return self._num_tokens

    @property
    def _device_load(self) -> float | None:
        step_s, waited_s = self._step_s.value, self._waited_s.value
        return min(1.0, waited_s / step_s) if step_s and waited_s is not None else None

    def summary(self, link: LinkEstimator | None, *, account: Account | None = None) -> Summary:
        """`link` is the one that served the stream; None if none did. `account`: the books it was held to."""
        per_token_s = (self._last_s - self._first_s) / max(1, self._num_tokens - 1)
        rtt_s = None if link is None else link.rtt_s
        return Summary(
            num_tokens=self._num_tokens,
            num_hinted=self._num_by_source[Source.HINTED],
            num_kept=self._num_by_source[Source.KEPT],
            num_at_once=self.num_at_once,
            num_provisional=self.num_provisional,
            num_revised=self.num_revised,
            account=account,
            time_to_first_token_s=self._first_s - self._started_s,
            time_per_token_s=per_token_s,
            num_drafted=self.num_drafted,
            bytes_up=self.bytes_up,
            bytes_down=self.bytes_down,
            num_opens=self.num_opens,
            num_passes=self.num_passes,
            num_disputed=self.num_disputed,
            finish_reason=self.finish_reason,
            rtt_s=rtt_s,
            jitter_s=None if link is None or rtt_s is None else link.jitter_s,
            bandwidth_bytes_per_s=None if link is None else link.bandwidth_bytes_per_s,
            loss=None if link is None else link.loss,
            edge_pass_s=self.pass_s.value,
            edge_queue_s=self.queue_s.value,
            draft_step_s=self._step_s.value,
            device_load=self._device_load,
            # Plain streaming need not be estimated where it is what was done.
            estimated_cloud_s_per_token=(per_token_s or None) if self._is_plain else self.pass_s.value,
        )
