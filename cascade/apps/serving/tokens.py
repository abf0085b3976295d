"""Who may come in: a TOML file of identities and the bearer tokens that stand for them.

    [phone]
    tokens = ["sha256:2bb80d53...", "a token in the clear"]   # two, while one replaces the other
    quota = { max_sessions = 4 }

    [prometheus]
    tokens = ["sha256:..."]
    operator = true   # may read /metrics

Only hashes are kept in memory. Tokens are made by machines and long, so a plain SHA-256 is enough.
"""

from __future__ import annotations

import hashlib
import logging
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...edge import Quota
from ...errors import SettingsError
from ...settings import from_mapping

__all__ = ["TokenFile", "hash_token"]

log = logging.getLogger(__name__)

HASHED = "sha256:"
HEX_DIGITS = re.compile(r"[0-9a-f]{64}")
MAX_IDENTITY = 128
"""Characters, as in HELLO."""
KNOWN_KEYS = {"tokens", "quota", "operator"}


def hash_token(token: str) -> str:
    """What to write into the file instead of the token."""
    return HASHED + hashlib.sha256(token.encode()).hexdigest()


class TokenFile:
    """The identities of one file. A file that became unreadable changes nothing: the old ones stay."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._identities: dict[str, str] = {}
        """By the hash of the token."""
        self._quotas: dict[str, Quota] = {}
        self._operators: frozenset[str] = frozenset()
        self._load()

    def identify(self, token: str) -> str | None:
        """The identity that a token stands for; None: nobody's."""
        return self._identities.get(hash_token(token)) if token else None

    def is_token_of(self, identity: str, token: str) -> bool:
        return self.identify(token) == identity

    def quota_of(self, identity: str) -> Quota | None:
        """What this identity may ask for, where it differs from the others."""
        return self._quotas.get(identity)

    def is_operator(self, identity: str) -> bool:
        return identity in self._operators

    def reload(self) -> bool:
        """Read the file again; False, and a line in the log, when it cannot be used."""
        try:
            self._load()
        except SettingsError as error:
            log.error("the tokens stay as they were: %s", error)
            return False
        log.info("%d tokens of %d identities", len(self._identities), len(set(self._identities.values())))
        return True

    def _load(self) -> None:
        identities: dict[str, str] = {}
        quotas: dict[str, Quota] = {}
        operators: set[str] = set()
        for identity, entry in read_toml(self.path).items():
            self._check(identity, entry)
            for token in entry["tokens"]:
                hashed = token if token.startswith(HASHED) else hash_token(token)
                if identities.setdefault(hashed, identity) != identity:
                    raise self._error(f"[{identity}] has a token that another identity has too")
            if "quota" in entry:
                quotas[identity] = from_mapping(Quota, entry["quota"])
            if entry.get("operator"):
                operators.add(identity)
        self._identities, self._quotas, self._operators = identities, quotas, frozenset(operators)

    def _check(self, identity: str, entry: Any) -> None:
        """Errors name the identity, never a token."""
        if not isinstance(entry, Mapping):
            raise self._error(f"{identity} must be a table: [{identity}] with tokens = [...]")
        if unknown := sorted(set(entry) - KNOWN_KEYS):
            raise self._error(f"[{identity}] has unknown keys {unknown}; there are {sorted(KNOWN_KEYS)}")
        if not 1 <= len(identity) <= MAX_IDENTITY:
            raise self._error(f"[{identity[:32]}...] is longer than {MAX_IDENTITY} characters")
        tokens = entry.get("tokens")
        if not isinstance(tokens, list) or not all(isinstance(token, str) and token for token in tokens):
            raise self._error(f"[{identity}] needs tokens = [...], each a text")
        for token in tokens:
            if token.startswith(HASHED) and not HEX_DIGITS.fullmatch(token.removeprefix(HASHED)):
                raise self._error(f"[{identity}] has a hash that is not sha256: and 64 hexadecimal digits")
        quota, operator = entry.get("quota", {}), entry.get("operator", False)
        if not isinstance(quota, Mapping) or not isinstance(operator, bool):
            raise self._error(f"[{identity}] needs quota = {{...}} and operator = true or false")

    def _error(self, reason: str) -> SettingsError:
        return SettingsError(str(self.path), reason)


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file, or a `SettingsError` that names it."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(str(path), f"cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError):
        # The parser's message may quote a line, and a line may hold a token.
        raise SettingsError(str(path), "is not TOML") from None
