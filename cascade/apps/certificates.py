"""TLS whose certificates can change while it serves."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path

from ..errors import SettingsError

__all__ = ["Certificates", "client_context"]

log = logging.getLogger(__name__)


class Certificates:
    """`context` is for the listener; every handshake uses the files as they were read last."""

    def __init__(self, certificate: Path, key: Path, client_ca: Path | None = None) -> None:
        self._files = (certificate, key, client_ca)
        self.context = self._read()
        self._newest = self.context
        # Called in every handshake, with or without a server name; the context it sets brings its own
        # certificate and its own CA.
        self.context.sni_callback = self._choose

    @property
    def paths(self) -> list[Path]:
        return [path for path in self._files if path is not None]

    def reload(self) -> bool:
        """Read the files again; False, and a line in the log, when they cannot be used."""
        try:
            self._newest = self._read()
        except SettingsError as error:
            log.error("the certificates stay as they were: %s", error)
            return False
        log.info("certificates read again")
        return True

    def _read(self) -> ssl.SSLContext:
        certificate, key, client_ca = self._files
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        try:
            context.load_cert_chain(certificate, key)
        except (OSError, ssl.SSLError) as error:
            raise SettingsError("tls", f"cannot use {certificate} with {key}: {_reason(error)}") from None
        if client_ca is not None:
            try:
                context.load_verify_locations(cafile=client_ca)
            except (OSError, ssl.SSLError) as error:
                raise SettingsError("client_ca", f"cannot use {client_ca}: {_reason(error)}") from None
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    def _choose(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        if self._newest is not self.context:
            connection.context = self._newest


def client_context(ca: Path) -> ssl.SSLContext:
    """To dial somebody whose certificate is of this CA."""
    try:
        return ssl.create_default_context(cafile=ca)
    except (OSError, ssl.SSLError) as error:
        raise SettingsError("ca", f"cannot use {ca}: {_reason(error)}") from None


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
