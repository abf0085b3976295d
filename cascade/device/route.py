"""Which edge to dial next, and how long to wait before that."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import RefusedError
from ..links.base import Dialer
from ..settings import check_number

__all__ = ["MAX_DOUBLINGS", "ReconnectSettings", "Route"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconnectSettings:
    """Full-jitter backoff: a random wait below a ceiling that doubles."""

    first_s: float = 0.1
    """The ceiling of the first wait."""
    ceiling_s: float = 5.0
    """The ceiling doubles up to this."""
    silent_s: float = 6.0
    """A link that owes an answer and brings nothing for this long is taken for dead."""

    def __post_init__(self) -> None:
        check_number("first_s", self.first_s, low=0)
        check_number("ceiling_s", self.ceiling_s, low=0)
        check_number("silent_s", self.silent_s, low=0.01)


MAX_DOUBLINGS = 64
"""Of the ceiling: far beyond any, and a power that a float still holds."""


class Route:
    """Edges in the order in which they are to be tried. One that refused us for good is not tried again."""

    def __init__(
        self, dialers: Sequence[Dialer], *, settings: ReconnectSettings, random_source: random.Random
    ) -> None:
        self._dialers = list(dialers)
        self._settings = settings
        self._random = random_source
        self._at = 0
        self._num_attempts = 0
        self.refusal: RefusedError | None = None
        """The last one."""

    @property
    def num_edges(self) -> int:
        """Those that may still serve us."""
        return len(self._dialers)

    @property
    def current(self) -> Dialer:
        return self._dialers[self._at]

    def stay(self) -> None:
        """The edge served us well: it is tried first again, for it may still have our sessions' caches."""
        self._num_attempts = 0

    def move_on(self) -> float:
        """Turn to the next edge; seconds to wait before dialling it."""
        self._at = (self._at + 1) % len(self._dialers)
        return self._backoff_s()

    def strike_out(self, refusal: RefusedError) -> float:
        """This edge will not have us, and dialling it again would change nothing."""
        self.refusal = refusal
        del self._dialers[self._at]
        self._at = self._at % max(1, len(self._dialers))
        return self._backoff_s()

    def _backoff_s(self) -> float:
        self._num_attempts = min(self._num_attempts + 1, MAX_DOUBLINGS)
        ceiling_s = min(self._settings.ceiling_s, self._settings.first_s * 2**self._num_attempts)
        return self._random.uniform(0, ceiling_s)
