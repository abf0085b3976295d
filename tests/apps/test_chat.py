"""`cascade chat`: orders, conversations, edges that are away, Ctrl-C, pipes and a real terminal."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import pty
import sys
import termios
import tty
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from cascade import Device, EdgeServer
from cascade.apps.chat.conversation import Conversation
from cascade.apps.chat.lines import terminal_kept
from cascade.apps.chat.orders import HELP, is_order, obey
from cascade.apps.chat.screens import JsonScreen, PlainScreen, Screen
from cascade.apps.chat.settings import ChatSettings
from cascade.apps.chat.terminal import TerminalScreen, visible
from cascade.apps.demo.processes import Commands
from cascade.errors import LinkError, SettingsError
from cascade.models.echo import EchoModel
from cascade.testing import MemoryListener, PacedRunner

from ..helpers import in_virtual_time

SETTINGS = ChatSettings(temperature=0)


# Orders


@pytest.mark.parametrize(
    ("line", "field", "value"),
    [
        ("/seed 7", "seed", 7),
        ("/seed off", "seed", None),
        ("/temperature 0.5", "temperature", 0.5),
        ("/tokens 9", "max_new_tokens", 9),
        ("/quality 0.9", "quality", 0.9),
        ("/system Be brief.", "system", "Be brief."),
        ("/private", "is_private", True),
        ("/private off", "is_private", False),
    ],
)
def test_an_order_changes_one_setting(line: str, field: str, value: Any) -> None:
    order = obey(line, ChatSettings(seed=1, is_private=field == "is_private" and not value))
    assert getattr(order.settings, field) == value
    assert order.says
    assert order.is_new == (field in ("system", "is_private")), "what was said in private stays so"


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("/dance", "/dance: there is no such order; /help lists them"),
        ("/seed x", "/seed: needs a number, such as /seed 1, not 'x'"),
        ("/seed -1", "seed: must be at least 0"),
        ("/quality 0.2", "quality: must be at least 0.5"),
        ("/temperature", "/temperature: needs a number"),
        ("/tokens 0", "tokens: must be at least 1"),
        ("/private maybe", "/private: must be on or off"),
    ],
)
def test_an_order_that_cannot_be_says_why(line: str, why: str) -> None:
    with pytest.raises(SettingsError) as caught:
        obey(line, ChatSettings())
    assert str(caught.value).startswith(why)


def test_help_names_every_order() -> None:
    for line in HELP.splitlines():
        name = line.split()[0]
        value = " 1" if " N" in line or " T " in line or " Q" in line else ""
        if is_order(name):
            obey(name + value, ChatSettings())  # raises where there is none
    assert is_order("/help")
    assert not is_order("//help is a question")
    assert not is_order("")


# Conversations


class Script:
    """Lines that somebody types, each when a condition holds."""

    def __init__(self, lines: Sequence[str]) -> None:
        self._lines = list(lines)

    async def next(self) -> str | None:
        return self._lines.pop(0) if self._lines else None


@contextlib.asynccontextmanager
async def house(*, has_edge: bool = True, pass_s: float = 0.01, slip: float = 0.2) -> AsyncIterator[Device]:
    """A device, and an edge that says what it is told."""
    async with contextlib.AsyncExitStack() as stack:
        if has_edge:
            edge = await stack.enter_async_context(
                EdgeServer.of(EchoModel(), PacedRunner(lambda rows: pass_s))
            )
            edge.listen(MemoryListener("chat"))
        draft, runner = EchoModel(slip=slip), PacedRunner(lambda rows: 0.001)
        where = "memory:chat" if has_edge else "memory:nowhere"
        yield await stack.enter_async_context(Device.connect(where, draft=draft, runner=runner))


def conversation(
    device: Device,
    lines: Sequence[str],
    screen: Screen,
    *,
    settings: ChatSettings = SETTINGS,
    is_patient: bool = False,
) -> Conversation:
    return Conversation(device, Script(lines), screen, settings, is_patient=is_patient)


@in_virtual_time
async def test_a_pipe_has_the_answers_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    async with house() as device:
        talk = conversation(device, ["Hello", "", "/seed 3", "//seed", "  Bye "], PlainScreen())
        await talk.run()
    shown = capsys.readouterr()
    assert shown.out == "You said: Hello\nYou said: /seed\nYou said: Bye\n"
    assert shown.err == "seed 3\n"


@in_virtual_time
async def test_lines_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    async with house() as device:
        await conversation(device, ["/seed 3", "Hello"], JsonScreen()).run()
    ready, note, *tokens, answer = map(json.loads, capsys.readouterr().out.splitlines())
    assert ready == {"event": "ready", "edge_model": "echo", "problem": ""}
    assert note == {"event": "note", "text": "seed 3"}
    assert "".join(token["text"] for token in tokens) == answer["text"] == "You said: Hello"
    assert {token["event"] for token in tokens} == {"token"}
    assert {token["source"] for token in tokens} == {"hinted", "driven"}
    assert [token["position"] for token in tokens] == list(
        range(tokens[0]["position"], tokens[0]["position"] + len(tokens))
    )
    assert (answer["question"], answer["finish_reason"], answer["seed"]) == ("Hello", "stop", 3)
    assert answer["tokens"] == len(tokens)
    assert answer["hinted"] == sum(token["source"] == "hinted" for token in tokens) > 0


@in_virtual_time
async def test_the_conversation_goes_on_and_begins_anew() -> None:
    prompts: list[int] = []

    class Screen(PlainScreen):
        def end(self, question: str, stream: Any) -> None:
            prompts.append(len(stream.request.prompt))

    async with house() as device:
        lines = ["Hello", "Hello", "/clear", "Hello", "/system Be brief.", "Hello"]
        await conversation(device, lines, Screen()).run()
    first, second, anew, with_system = prompts
    assert second > first == anew < with_system


@in_virtual_time
async def test_in_private_nothing_leaves_the_device() -> None:
    ends: list[tuple[int, int, int]] = []

    class Screen(PlainScreen):
        def end(self, question: str, stream: Any) -> None:
            summary = stream.summary
            ends.append((summary.num_kept, summary.bytes_up, len(stream.request.prompt)))

    async with house(slip=0) as device:
        lines = ["/private", "secret", "/private off", "open"]
        await conversation(device, lines, Screen()).run()
    (private_kept, private_bytes, _), (kept, sent, num_prompt) = ends
    assert (private_kept > 0, private_bytes) == (True, 0)
    assert (kept, sent > 0) == (0, True)
    assert num_prompt == len("open") + 3, "what was said in private is not told to the edge later"


@in_virtual_time
async def test_ctrl_c_stops_the_answer_and_the_next_one_leaves() -> None:
    output = io.StringIO()
    screen = TerminalScreen(Console(file=output, width=60))
    typed = asyncio.Event()

    class Typing(Script):
        async def next(self) -> str | None:
            line = await super().next()
            if line is None:
                await typed.wait()
            return line

    async with house(pass_s=0.1) as device:
        talk = Conversation(device, Typing(["word " * 30, "Hello"]), screen, SETTINGS, is_patient=True)
        running = asyncio.create_task(talk.run())
        await asyncio.sleep(2)
        talk.interrupt()
        await asyncio.sleep(20)
        assert not running.done(), "it waits for the next line"
        talk.interrupt()
        await running
        assert talk.was_interrupted
        assert not list(device._running.connection._roster)
    text = output.getvalue()
    assert "stopped after" in text
    assert "You said: Hello" in text


@in_virtual_time
async def test_without_an_edge_a_pipe_gives_up_and_a_person_may_wait() -> None:
    async with house(has_edge=False) as device:
        with pytest.raises(LinkError, match=r"within 10 s \(.*nowhere"):
            await conversation(device, ["Hello"], PlainScreen()).run()
        output = io.StringIO()
        screen = TerminalScreen(Console(file=output, force_terminal=True, width=100))
        talk = conversation(device, ["Hello", "/quit"], screen, is_patient=True)
        running = asyncio.create_task(talk.run())
        await asyncio.sleep(60)
        assert not running.done()
        assert "no edge answers yet" in output.getvalue()
        talk.interrupt()
        await running
        assert not talk.was_interrupted, "it left by /quit"


@in_virtual_time
async def test_a_failed_answer_ends_a_pipe_but_not_a_person() -> None:
    """A device without a draft cannot answer alone."""
    async with contextlib.AsyncExitStack() as stack:
        edge = await stack.enter_async_context(EdgeServer.of(EchoModel(), PacedRunner(lambda rows: 0.01)))
        edge.listen(MemoryListener("plain"))
        device = await stack.enter_async_context(
            Device.connect("memory:plain", tokenizer=EchoModel().tokenizer)
        )
        private = ChatSettings(temperature=0, is_private=True)
        with pytest.raises(SettingsError, match="private"):
            await conversation(device, ["Hello"], PlainScreen(), settings=private).run()
        output = io.StringIO()
        screen = TerminalScreen(Console(file=output, width=100))
        lines = ["Hello", "/private off", "Hello"]
        await conversation(device, lines, screen, settings=private, is_patient=True).run()
    assert "private: needs a draft model" in output.getvalue()
    assert "You said: Hello" in output.getvalue()


@in_virtual_time
async def test_a_terminal_shows_every_character_once_whatever_its_width() -> None:
    question = "one two three four five six seven eight nine ten, and a " + "long" * 20 + "\n\nEnd"
    for width in (20, 33, 80):
        output = io.StringIO()
        screen = TerminalScreen(Console(file=output, width=width, no_color=True))
        async with house() as device:
            talk = conversation(device, [question], screen, is_patient=True)
            await talk.run()
        lines = output.getvalue().splitlines()
        assert max(map(len, lines)) <= width
        text = "".join(output.getvalue().split())
        assert "".join(f"You said: {question}".split()) in text


def test_sources_are_tinted_where_the_terminal_can(monkeypatch: pytest.MonkeyPatch) -> None:
    for has_colour in (True, False):
        if not has_colour:
            monkeypatch.setenv("NO_COLOR", "1")
        output = io.StringIO()
        console = Console(file=output, force_terminal=True, color_system="standard", width=60)
        TerminalScreen(console).greet("echo", "")
        assert ("\x1b[32mhinted" in output.getvalue()) == has_colour


def test_what_a_model_says_does_not_steer_the_terminal() -> None:
    assert visible("a\x1b[2Jb\x07\tc\n\x9b") == "a�[2Jb�\tc\n�"


# As processes

SMALL = "smollm2-135m-draft"
"""The draft as its own target: it comes with the package, so nothing is fetched."""
OWN_THE_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
)
"""Then Ctrl-C that is typed there reaches the program."""


def test_a_terminal_is_put_back_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "wb", buffering=0), os.fdopen(theirs) as terminal:
        monkeypatch.setattr("sys.stdin", terminal)
        before = termios.tcgetattr(terminal)
        with terminal_kept():
            tty.setraw(terminal)
            assert termios.tcgetattr(terminal) != before
        assert termios.tcgetattr(terminal) == before


def test_what_is_no_terminal_is_left_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.touch()
    with path.open() as lines:
        monkeypatch.setattr("sys.stdin", lines)
        with terminal_kept():
            pass


async def test_a_person_at_a_terminal() -> None:
    """A question, Ctrl-C in its answer, the facts, Ctrl-C once more; the terminal is as it was."""
    async with Commands() as commands:
        edge = await commands.start(
            "serve", "--model", SMALL, "--http", "127.0.0.1:0", "--json", within_s=120
        )
        ours, theirs = pty.openpty()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", OWN_THE_TERMINAL, "-m", "cascade.cli", "chat", "--edge", edge["link"]),
            *("--tokens", "2000", "--temperature", "0"),
            stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
            env=os.environ | {"TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"},
        )  # fmt: skip
        os.close(theirs)
        terminal = Terminal(ours)
        try:
            await terminal.see("> ")
            terminal.type("Why is the sky blue?\r")
            await terminal.see("tokens a second")
            assert "\x1b[32m" in terminal.seen, "hinted tokens are green"
            terminal.type("\x03")
            await terminal.see("stopped after")
            await terminal.see("> ")
            terminal.type("/facts\r")
            await terminal.see("ended by cancelled")
            await terminal.see("> ")
            terminal.type("\x03")
            assert await process.wait() == 130
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
            terminal.close()


class Terminal:
    """The other end of a program's terminal."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.seen = ""
        self._from = 0
        self._news = asyncio.Event()
        os.set_blocking(fd, False)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(fd, self._read)

    def _read(self) -> None:
        try:
            self.seen += os.read(self._fd, 65536).decode(errors="replace")
        except OSError:  # the program has ended
            self._loop.remove_reader(self._fd)
        self._news.set()

    async def see(self, text: str) -> None:
        """Behind everything that was waited for before."""
        while (at := self.seen.find(text, self._from)) < 0:
            self._news.clear()
            await self._news.wait()
        self._from = at + len(text)

    def type(self, text: str) -> None:
        os.write(self._fd, text.encode())

    def close(self) -> None:
        self._loop.remove_reader(self._fd)
        os.close(self._fd)
