"""One text in two tokenisations, the second made from the first as it grows and is rolled back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .text import REPLACEMENT, TextTokenizer

__all__ = ["Retokenised", "proposals"]

CONTEXT_TOKENS = 8
"""What a token adds to a text may depend on so many before it: spaces, and characters of several tokens."""
MAX_SEGMENT = 256
"""Characters; text without blanks is cut after so many, lest each step write all of it again."""
ANCHOR = "a"
"""Text of which a token or a word is the continuation, to keep tokenizers from adding a first space."""
BYTES_PER_TOKEN = 165
"""What CPython takes, measured."""


class Retokenised:
    """The text of `target`'s tokens, written in `draft`'s.

    The text is cut into segments where a blank follows something else, and each is tokenised by itself, which
    for tokenizers that split into words first changes nothing. Only the last segment is open: a step costs
    that much work, and the result is a function of the text alone, not of the way it came about.
    """

    __slots__ = ("_closed", "_draft", "_ends", "_segments", "_target", "_text", "_tokens")

    def __init__(self, target: TextTokenizer, draft: TextTokenizer) -> None:
        self._target = target
        self._draft = draft
        self._tokens: list[int] = []
        self._ends: list[int] = []
        """Characters of the text after each token; a character that is not whole yet does not count."""
        self._text = ""
        self._closed = draft.encode("", special=True)[:1]
        """Draft tokens of all segments but the last; first the one that the draft wants before any text."""
        self._segments = [(0, len(self._closed))]
        """Where each segment begins: characters, draft tokens."""

    @property
    def length(self) -> int:
        """Target tokens."""
        return len(self._tokens)

    @property
    def memory_bytes(self) -> int:
        return BYTES_PER_TOKEN * self.length

    def growth_bytes(self, num_tokens: int) -> int:
        return BYTES_PER_TOKEN * num_tokens

    @property
    def fork_bytes(self) -> int:
        return self.memory_bytes

    def extend(self, tokens: Iterable[int]) -> None:
        pieces: list[str] = []
        end = start = len(self._text)
        for token in tokens:
            context = self._tokens[-CONTEXT_TOKENS:]
            self._tokens.append(token)
            piece = _whole(self._target, [*context, token])[len(_whole(self._target, context)) :]
            pieces.append(piece)
            end += len(piece)
            self._ends.append(end)
        self._text += "".join(pieces)
        for at in range(start, end):
            self._close_segment(at)

    def truncate(self, length: int) -> None:
        del self._tokens[length:], self._ends[length:]
        self._text = self._text[: self._ends[-1] if self._ends else 0]
        while len(self._segments) > 1 and self._segments[-1][0] >= len(self._text):
            self._segments.pop()
            del self._closed[self._segments[-1][1] :]

    def draft_ids(self) -> list[int]:
        """The draft's tokens for the text so far."""
        return self._closed + self._encode(len(self._text))

    def copy(self) -> Retokenised:
        twin = Retokenised(self._target, self._draft)
        twin._tokens, twin._ends, twin._text = self._tokens.copy(), self._ends.copy(), self._text
        twin._closed, twin._segments = self._closed.copy(), self._segments.copy()
        return twin

    def _close_segment(self, at: int) -> None:
        """Begin a new segment at this character, if it is a place to."""
        begin, text = self._segments[-1][0], self._text
        is_word = at > begin and text[at].isspace() and not text[at - 1].isspace()
        if is_word or at - begin >= MAX_SEGMENT:
            self._closed += self._encode(at)
            self._segments.append((at, len(self._closed)))

    def _encode(self, end: int) -> list[int]:
        """Draft tokens of the last segment up to this character."""
        begin = self._segments[-1][0]
        segment = self._text[begin:end]
        return _continuation(self._draft, segment) if begin else self._draft.encode(segment)


def proposals(
    draft: TextTokenizer, target: TextTokenizer, *, draft_ends: frozenset[int]
) -> set[tuple[int, int]]:
    """Which token of the target each token of the draft stands for: pairs (target id, draft id)."""
    draft_texts, target_texts = _texts(draft), _texts(target)
    by_text: dict[str, list[int]] = {}
    for index, text in target_texts.items():
        by_text.setdefault(text, []).append(index)
    pairs: set[tuple[int, int]] = set()
    for index, text in draft_texts.items():
        same = by_text.get(text, [])
        if len(same) == 1:
            pairs.add((same[0], index))
            continue
        # None has this text, or several have (a letter, and the byte that it is): as the target writes it.
        first = next(iter(_continuation(target, text)), -1)
        if text.startswith(target_texts.get(first, REPLACEMENT)):
            pairs.add((first, index))
    # Tokens that are no text by themselves, bytes for example, go by the string that names them.
    target_names = target.tokens()
    for name, index in draft.tokens().items():
        if index not in draft_texts and name in target_names and target_names[name] not in target_texts:
            pairs.add((target_names[name], index))
    # An end is an end, whatever it is called.
    if target.eos_ids and not any(t in target.eos_ids and d in draft_ends for t, d in pairs):
        pairs |= {(end, index) for end in target.eos_ids for index in draft_ends}
    return pairs


def _texts(tokenizer: TextTokenizer) -> dict[int, str]:
    """What each token adds to a text in its middle, where that is whole characters."""
    anchor = tokenizer.encode(ANCHOR)
    before = tokenizer.decode(anchor, skip_special=False)
    found: dict[int, str] = {}
    for index in sorted(tokenizer.tokens().values()):
        text = tokenizer.decode([*anchor, index], skip_special=False)
        piece = text[len(before) :]
        if text.startswith(before) and piece and REPLACEMENT not in piece:
            found[index] = piece
    return found


def _continuation(tokenizer: TextTokenizer, text: str) -> list[int]:
    """Tokens of a text that something stands before."""
    anchor = tokenizer.encode(ANCHOR)
    ids = tokenizer.encode(ANCHOR + text)
    return ids[len(anchor) :] if ids[: len(anchor)] == anchor else tokenizer.encode(text)


def _whole(tokenizer: TextTokenizer, tokens: Sequence[int]) -> str:
    """Their text without a character at its end of which a part is missing."""
    return tokenizer.decode(tokens, skip_special=False).rstrip(REPLACEMENT)
