"""What to say about an address that cannot be listened on, or reached."""

from __future__ import annotations

import os
import socket
import ssl

from ..errors import LinkUnavailable

__all__ = ["cannot_listen", "check_port", "os_reason"]


def cannot_listen(host: str, port: int, error: OSError) -> LinkUnavailable:
    """To be raised in place of what the system said."""
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return LinkUnavailable(f"cannot listen on {where}: {os_reason(error)}; choose another port, or 0 for any")


def check_port(host: str, port: int) -> None:
    """Raise at once what listening would raise: before it, a model may have to be loaded for a minute."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        raise cannot_listen(host, port, error) from None


def os_reason(error: OSError) -> str:
    """The system's words alone; asyncio and socket put the address and a number around them."""
    # TLS, and names that do not resolve, have numbers of their own.
    if error.errno is not None and error.errno > 0 and not isinstance(error, ssl.SSLError):
        return os.strerror(error.errno)
    return error.strerror or str(error) or type(error).__name__
