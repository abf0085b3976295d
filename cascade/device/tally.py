"""What a stream counts about itself, for its summary."""

from __future__ import annotations

from ..events import Source, Summary

__all__ = ["Tally"]


class Tally:
    """Counts while the stream runs; `summary` says what came of it."""

    def __init__(self, started_s: float) -> None:
        self.num_drafted = 0
        self.num_opens = 0
        self.bytes_up = 0
        self.bytes_down = 0
        self.finish_reason = ""
        self._num_tokens = self._num_hinted = 0
        self._started_s = self._first_s = self._last_s = started_s

    def count_token(self, source: Source, now_s: float) -> None:
        if self._num_tokens == 0:
            self._first_s = now_s
        self._last_s = now_s
        self._num_tokens += 1
        self._num_hinted += source is Source.HINTED

    @property
    def summary(self) -> Summary:
        return Summary(
            num_tokens=self._num_tokens,
            num_hinted=self._num_hinted,
            time_to_first_token_s=self._first_s - self._started_s,
            time_per_token_s=(self._last_s - self._first_s) / max(1, self._num_tokens - 1),
            num_drafted=self.num_drafted,
            bytes_up=self.bytes_up,
            bytes_down=self.bytes_down,
            num_opens=self.num_opens,
            finish_reason=self.finish_reason,
        )
