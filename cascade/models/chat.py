"""Chat templates: a model's own Jinja template, rendered in a sandbox without transformers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import ModelError

__all__ = ["ChatTemplate"]

TOKENS = ("bos_token", "eos_token", "unk_token", "pad_token")


class ChatTemplate:
    """A conversation in, the text the model was trained to see out.

    Templates that ask for today's date get none (`strftime_now` is left undefined, and they fall back):
    the same conversation must always be the same tokens.
    """

    def __init__(self, source: str, special_tokens: Mapping[str, str] | None = None) -> None:
        try:
            from jinja2 import TemplateError
            from jinja2.ext import loopcontrols
            from jinja2.sandbox import ImmutableSandboxedEnvironment
        except ImportError as error:
            raise ModelError("chat templates need jinja2: pip install jinja2") from error
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols]
        )
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _raise_exception
        self.source = source
        self._tokens = dict(special_tokens or {})
        self._error = TemplateError
        try:
            self._template = environment.from_string(source)
        except TemplateError as error:
            raise ModelError(f"the model's chat template is broken: {error}") from error

    @classmethod
    def from_folder(cls, folder: Path, tokenizer_config: Mapping[str, Any]) -> ChatTemplate | None:
        """The template of a model's folder, wherever its version of transformers left it."""
        source: Any = tokenizer_config.get("chat_template")
        jinja = folder / "chat_template.jinja"
        packed = folder / "chat_template.json"
        try:
            if jinja.is_file():
                source = jinja.read_text(encoding="utf-8")
            elif packed.is_file():
                source = json.loads(packed.read_text(encoding="utf-8")).get("chat_template")
        except (OSError, ValueError) as error:
            raise ModelError(f"the chat template in {folder} cannot be read: {error}") from error
        if isinstance(source, list):
            named = {entry.get("name"): entry.get("template") for entry in source}
            source = named.get("default")
        if not isinstance(source, str):
            return None
        tokens = {name: _content(tokenizer_config.get(name)) for name in TOKENS}
        return cls(source, {name: token for name, token in tokens.items() if token is not None})

    def render(
        self, messages: Sequence[Mapping[str, Any]], *, generation: bool = True, **variables: Any
    ) -> str:
        """The conversation's text; `generation` opens the assistant's turn."""
        try:
            return self._template.render(
                messages=list(messages), add_generation_prompt=generation, **self._tokens, **variables
            )
        except (self._error, TypeError) as error:
            raise ModelError(f"the model's chat template refuses this conversation: {error}") from error


def _content(token: Any) -> str | None:
    value = token.get("content") if isinstance(token, Mapping) else token
    return value if isinstance(value, str) else None


def _to_json(value: Any, ensure_ascii: bool = False, indent: int | None = None, **others: Any) -> str:
    # Jinja's own filter escapes for HTML, which would change the text.
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, **others)


def _raise_exception(message: str) -> None:
    from jinja2 import TemplateError

    raise TemplateError(message)
