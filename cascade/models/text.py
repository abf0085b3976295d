"""Between text and token ids, with the `tokenizers` library alone: neither torch nor transformers.

Generated text is made from token ids piece by piece (`Detokenizer`), searched for stop strings across the
borders of tokens (`StopScanner`), and never tokenised again: what a turn's tokens were, they stay.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ModelError
from .chat import ChatTemplate
from .vocabulary import TOKENIZER_FOLDER

if TYPE_CHECKING:
    import tokenizers

__all__ = ["Detokenizer", "StopScanner", "TextTokenizer", "read_json", "tokenizer_file", "tokenizer_folder"]

REPLACEMENT = "\ufffd"
MAX_PENDING = 16
"""So many tokens without one whole character are no text; they are given out as they are."""


class TextTokenizer:
    """A tokenizer with its chat template and end-of-sequence set."""

    def __init__(
        self,
        tokenizer: tokenizers.Tokenizer,
        *,
        chat_template: ChatTemplate | None = None,
        eos_ids: frozenset[int] = frozenset(),
    ) -> None:
        # Stored settings for batches of training text; ids of a prompt must be its own, all of them.
        tokenizer.no_padding()
        tokenizer.no_truncation()
        self._tokenizer = tokenizer
        self._chat_template = chat_template
        self.eos_ids = eos_ids
        """Any of these ends an answer."""
        vocabulary = sorted((index, token) for token, index in tokenizer.get_vocab().items())
        self.vocab_size = vocabulary[-1][0] + 1 if vocabulary else 0
        self.vocab_fingerprint = hashlib.sha256(repr(vocabulary).encode()).hexdigest()[:16]
        """Hash of the vocabulary: equal for two tokenizers whose ids mean the same tokens."""

    @classmethod
    def load(cls, folder: str | Path) -> TextTokenizer:
        """Read `tokenizer.json` (or `tokenizer.json.gz`) and its companions from a model's folder."""
        folder = Path(folder)
        path = tokenizer_file(folder)
        if path is None:
            raise ModelError(f"{folder} has no tokenizer.json; save the tokenizer again with save_pretrained")
        try:
            import tokenizers
        except ImportError as error:
            raise ModelError("text needs the tokenizers library: pip install tokenizers") from error
        try:
            content = path.read_bytes()
            tokenizer = tokenizers.Tokenizer.from_buffer(
                gzip.decompress(content) if path.suffix == ".gz" else content
            )
        except Exception as error:  # the library raises bare Exception
            raise ModelError(f"{path} cannot be read: {error}") from error
        config = read_json(folder / "tokenizer_config.json")
        return cls(
            tokenizer,
            chat_template=ChatTemplate.from_folder(folder, config),
            eos_ids=_eos_ids(folder, config, tokenizer),
        )

    @property
    def has_chat_template(self) -> bool:
        return self._chat_template is not None

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        """Token ids of a text; `special` adds what the model puts around a text of its own (BOS, say)."""
        return list(self._tokenizer.encode(text, add_special_tokens=special).ids)

    def decode(self, ids: Sequence[int], *, skip_special: bool = True) -> str:
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=skip_special))

    def tokens(self) -> dict[str, int]:
        """The vocabulary: each token's own string, as the tokenizer writes it, and its id."""
        return {str(token): int(index) for token, index in self._tokenizer.get_vocab().items()}

    def chat_text(
        self, messages: Sequence[Mapping[str, Any]], *, generation: bool = True, **variables: Any
    ) -> str:
        """The text of a conversation; `generation` opens the assistant's turn."""
        if self._chat_template is None:
            raise ModelError("this model has no chat template; send plain text, or use an instruct model")
        return self._chat_template.render(messages, generation=generation, **variables)

    def chat(
        self, messages: Sequence[Mapping[str, Any]], *, generation: bool = True, **variables: Any
    ) -> list[int]:
        """Token ids of a conversation."""
        return self.encode(self.chat_text(messages, generation=generation, **variables))

    def detokenizer(self, prompt: Sequence[int] = ()) -> Detokenizer:
        """Text of ids that come one by one; the prompt's end decides how the first of them looks."""
        return Detokenizer(self, prompt)


class Detokenizer:
    """Turns token ids into text as they come, whole characters only.

    A token may be part of a character, and its text may depend on its neighbours (spaces). So the last few
    tokens are decoded with and without the new ones, and the difference is the new text.
    """

    def __init__(self, tokenizer: TextTokenizer, prompt: Sequence[int] = ()) -> None:
        self._tokenizer = tokenizer
        self._ids = list(prompt[-MAX_PENDING:])
        self._known = len(self._ids)
        """Ids before this were given out."""
        self._base = tokenizer.decode(self._ids)

    def add(self, *ids: int) -> str:
        """The new text, possibly empty while a character is incomplete."""
        out = []
        for token in ids:
            self._ids.append(token)
            text = self._tokenizer.decode(self._ids)
            pending = len(self._ids) - self._known
            if text.endswith(REPLACEMENT) and pending < MAX_PENDING:
                continue
            if len(text) > len(self._base):
                out.append(text[len(self._base) :])
                # Keep only what the next token's spacing may depend on.
                self._ids = self._ids[self._known :]
                self._known = len(self._ids)
                self._base = self._tokenizer.decode(self._ids)
        return "".join(out)

    def flush(self) -> str:
        """What is left at the end: an incomplete character shows as the replacement character."""
        rest = self._tokenizer.decode(self._ids)[len(self._base) :]
        self._ids, self._known, self._base = [], 0, ""
        return rest


class StopScanner:
    """Finds stop strings in text that arrives in pieces; holds back what may become one."""

    def __init__(self, stops: Sequence[str]) -> None:
        if any(not stop for stop in stops):
            raise ModelError("a stop string must not be empty")
        self._stops = tuple(stops)
        self._held = ""
        self.found: str | None = None
        """The stop string that was found; text after it is dropped."""

    def add(self, text: str) -> str:
        """The part of the text that may be shown now: never anything of a stop string."""
        if self.found is not None:
            return ""
        text = self._held + text
        hits = [(text.find(stop), -len(stop), stop) for stop in self._stops if stop in text]
        if hits:
            at, _, self.found = min(hits)
            self._held = ""
            return text[:at]
        held = max((_overlap(text, stop) for stop in self._stops), default=0)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]

    def flush(self) -> str:
        """What was held back and did not become a stop string."""
        rest, self._held = self._held, ""
        return rest


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that begins `stop`."""
    for length in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0


def _eos_ids(folder: Path, config: Mapping[str, Any], tokenizer: tokenizers.Tokenizer) -> frozenset[int]:
    """Generation settings name them; the tokenizer's own end token counts too (chat ends often differ)."""
    found: set[int] = set()
    for name in ("generation_config.json", "config.json"):
        value = read_json(folder / name).get("eos_token_id")
        found.update(
            item for item in (value if isinstance(value, list) else [value]) if isinstance(item, int)
        )
    token = config.get("eos_token")
    if isinstance(token, Mapping):
        token = token.get("content")
    if isinstance(token, str):
        index = tokenizer.token_to_id(token)
        found.update(() if index is None else (index,))
    return frozenset(found)


def tokenizer_file(folder: Path) -> Path | None:
    """The folder's tokenizer, plain or compressed; None if it has none."""
    for name in ("tokenizer.json", "tokenizer.json.gz"):
        if (folder / name).is_file():
            return folder / name
    return None


def tokenizer_folder(folder: Path) -> Path | None:
    """Where a model's folder keeps its tokenizer: a draft's is its target's, in a folder of its own."""
    return next((part for part in (folder, folder / TOKENIZER_FOLDER) if tokenizer_file(part)), None)


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty where there is no file, or something else in it."""
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read: {error}") from error
    return value if isinstance(value, dict) else {}
