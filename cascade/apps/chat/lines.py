"""What somebody types, or a pipe brings, line by line, while the loop goes on."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sys
import threading
from collections.abc import Iterator

__all__ = ["Lines", "terminal_kept"]

PROMPT = "> "


class Lines:
    """Reads when it is asked to, in a thread of its own: what a person types takes as long as it takes.

    The thread is a daemon. Nobody can wake one that waits for a key, so it ends with the process.
    """

    def __init__(self, *, has_prompt: bool) -> None:
        """With a prompt the line is edited on the terminal, with a history where Python has readline."""
        self._has_prompt = has_prompt
        self._wanted: queue.SimpleQueue[asyncio.Future[str | None]] = queue.SimpleQueue()
        self._pending: asyncio.Future[str | None] | None = None
        if has_prompt:
            with contextlib.suppress(ImportError):
                import readline  # noqa: F401  -- importing it is what makes `input` edit
        threading.Thread(target=self._read_all, name="chat-lines", daemon=True).start()

    async def next(self) -> str | None:
        """The next line, without its end; None where there are no more. A call that was given up is taken up
        by the next one, so no line is lost."""
        if self._pending is None:
            self._pending = asyncio.get_running_loop().create_future()
            self._wanted.put(self._pending)
        line = await asyncio.shield(self._pending)
        self._pending = None
        return line

    def _read_all(self) -> None:
        while True:
            future = self._wanted.get()
            line = self._read()
            try:
                future.get_loop().call_soon_threadsafe(_give, future, line)
            except RuntimeError:  # the loop has ended, and nobody wants it
                return

    def _read(self) -> str | None:
        try:
            if self._has_prompt:
                return input(PROMPT)
            line = sys.stdin.readline()
        except (EOFError, OSError, ValueError):  # closed
            return None
        except UnicodeDecodeError:
            return ""
        return line.rstrip("\r\n") if line else None


def _give(future: asyncio.Future[str | None], line: str | None) -> None:
    if not future.done():
        future.set_result(line)


@contextlib.contextmanager
def terminal_kept() -> Iterator[None]:
    """Puts the terminal back as it was: who leaves while a line is edited would leave it without echo."""
    try:
        import termios

    except ImportError:  # Windows
        yield
        return
    state = termios.tcgetattr(sys.stdin) if sys.stdin.isatty() else None
    try:
        yield
    finally:
        if state is not None:
            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, state)
