"""What is to be said beside committed tokens, until the device has them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

__all__ = ["Remarks"]


class Remarks:
    """Of one text: which tokens are not the engine's own picks, and how likely its own picks were."""

    def __init__(self) -> None:
        self._disputed: set[int] = set()
        self._logprobs: dict[int, float] = {}

    def dispute(self, positions: Iterable[int]) -> None:
        self._disputed.update(positions)

    def note_logprobs(self, logprobs: Iterable[tuple[int, float]]) -> None:
        """By position."""
        self._logprobs.update(logprobs)

    def verdict(self, start: int, stop: int) -> tuple[bool, ...] | None:
        """Which of these tokens are the engine's own picks; None: all of them."""
        if not self._disputed:
            return None
        is_own = tuple(position not in self._disputed for position in range(start, stop))
        return None if all(is_own) else is_own

    def logprobs(self, start: int, stop: int, *, known: int) -> tuple[float, ...] | None:
        """Of these tokens; None where some were decided elsewhere."""
        # What the device has, and hears again all the same, it passes over: 0 stands for it.
        found = [self._logprobs.get(each, 0.0 if each < known else None) for each in range(start, stop)]
        values = tuple(value for value in found if value is not None)
        return values if len(values) == stop - start else None

    def forget_before(self, position: int) -> None:
        """The device has that."""
        self._keep(lambda each: each >= position)

    def forget_from(self, position: int) -> None:
        """The text is another one from there on."""
        self._keep(lambda each: each < position)

    def _keep(self, is_kept: Callable[[int], bool]) -> None:
        if self._disputed:
            self._disputed = {each for each in self._disputed if is_kept(each)}
        if self._logprobs:
            self._logprobs = {each: value for each, value in self._logprobs.items() if is_kept(each)}
