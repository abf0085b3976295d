"""Names and passwords in a file that only its owner reads."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterable
from pathlib import Path

from cascade.errors import SettingsError

__all__ = ["AccountsFile", "new_password"]


def new_password() -> str:
    """Long enough for nobody to guess, plain enough for a URL."""
    return secrets.token_urlsafe(12)


class AccountsFile:
    """JSON, name to password; made when it is first needed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> dict[str, str]:
        try:
            text = self.path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise SettingsError("accounts", f"cannot read {self.path}: {error.strerror}") from None
        try:
            found = json.loads(text)
        except ValueError:
            found = None
        if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
            raise SettingsError("accounts", f"{self.path} is not a JSON object of names and passwords")
        return found

    def add(self, names: Iterable[str]) -> dict[str, str]:
        """Those in the file, and these, who get a password where they have none. They are kept."""
        accounts = self.read()
        missing = [name for name in names if name not in accounts]
        if missing:
            accounts.update((name, new_password()) for name in missing)
            try:
                # Never readable by others, not for a moment.
                file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
                with open(file, "w", encoding="utf-8") as stream:
                    json.dump(accounts, stream, indent=1)
            except OSError as error:
                raise SettingsError("accounts", f"cannot write {self.path}: {error.strerror}") from None
        return accounts
