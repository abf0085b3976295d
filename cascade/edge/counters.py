"""What an edge counts for its operator. Plain numbers: how they are shown is somebody else's business."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from .histogram import SECONDS, Histogram

__all__ = ["Counters", "Usage"]

MAX_IDENTITIES = 256
"""Identities that are counted each for itself; the others are counted together."""
OTHERS = "(others)"


@dataclass(slots=True)
class Usage:
    """What one identity used."""

    num_sessions: int = 0
    num_prompt_tokens: int = 0
    num_tokens: int = 0
    num_hinted: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    num_refused: int = 0


@dataclass(slots=True)
class Counters:
    """Since the edge was made. Tokens, where nothing else is said."""

    num_sessions: int = 0
    num_resumed: int = 0
    """Sessions opened again by their device."""
    ended: Counter[str] = field(default_factory=Counter)
    """Sessions, by reason."""
    refused: Counter[str] = field(default_factory=Counter)
    """OPENs and HELLOs, by error code."""
    cut: Counter[str] = field(default_factory=Counter)
    """Links that the edge hung up on, by reason."""
    num_links: int = 0
    num_bad_messages: int = 0
    num_slowed: int = 0
    """Times that a link was read later because its identity said too much."""
    num_prompt: int = 0
    num_offered: int = 0
    """Hints that came."""
    num_ignored: int = 0
    """Hints that were not taken, because their identity was over its rate."""
    num_accepted: int = 0
    """Hints that became text."""
    num_driven: int = 0
    """Tokens of the edge's own."""
    bytes_in: int = 0
    bytes_out: int = 0
    first_token_s: Histogram = field(default_factory=lambda: Histogram(SECONDS))
    by_identity: dict[str, Usage] = field(default_factory=dict)

    def usage_of(self, identity: str) -> Usage:
        """Whoever comes late is counted among the others, so that strangers cannot grow the table."""
        found = self.by_identity.get(identity)
        if found is None:
            name = identity if len(self.by_identity) < MAX_IDENTITIES else OTHERS
            found = self.by_identity.setdefault(name, Usage())
        return found
