"""What a draft learns from: prompts and the answers that the target gave, as token ids."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...errors import ModelError
from .files import write_lines

__all__ = ["CHUNK_TEXTS", "Text", "chunks", "common_start", "packed", "read_texts", "write_texts"]

CHUNK_TEXTS = 128
"""Texts in a unit of work, written side by side: what an interruption may cost."""


@dataclass(frozen=True, slots=True)
class Text:
    """One question and its answer."""

    prompt: tuple[int, ...]
    answer: tuple[int, ...]

    @property
    def tokens(self) -> tuple[int, ...]:
        return self.prompt + self.answer


def read_texts(path: Path) -> list[Text]:
    """Texts of a file of JSON lines `{"p": [prompt ids], "r": [answer ids]}`, plain or with gzip."""
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
        return [_parse(line) for line in content.splitlines() if line.strip()]
    except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"{path} holds no texts: {error!r}; wanted are lines of JSON with token ids: "
            '{"p": [prompt], "r": [answer]}'
        ) from error


def write_texts(path: Path, texts: Iterable[Text]) -> None:
    lines = [json.dumps({"p": text.prompt, "r": text.answer}, separators=(",", ":")) for text in texts]
    write_lines(path, lines)


def chunks(texts: Sequence[Text]) -> list[Sequence[Text]]:
    """The texts in units of work, in order."""
    return [texts[at : at + CHUNK_TEXTS] for at in range(0, len(texts), CHUNK_TEXTS)]


def common_start(prompts: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """The tokens that all prompts begin with, less one: a pass needs something to feed."""
    if not prompts:
        return ()
    first, last = min(map(tuple, prompts)), max(map(tuple, prompts))
    length = 0
    while length < min(len(first), len(last)) - 1 and first[length] == last[length]:
        length += 1
    return first[:length]


def packed(lengths: Sequence[int], most: int) -> list[list[int]]:
    """Indices in groups whose lengths add up to at most `most` (a longer one stands alone), longest first."""
    groups: list[list[int]] = []
    room: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        for at, left in enumerate(room):
            if left >= lengths[index]:
                groups[at].append(index)
                room[at] -= lengths[index]
                break
        else:
            groups.append([index])
            room.append(most - lengths[index])
    return groups


def _parse(line: bytes) -> Text:
    entry = json.loads(line)
    text = Text(tuple(map(int, entry["p"])), tuple(map(int, entry["r"])))
    if not text.prompt or not text.answer:
        raise ValueError("a prompt or an answer is empty")
    return text
