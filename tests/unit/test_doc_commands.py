"""Commands on the pages are ones that there are: `cascade` with its options, `make`, programs of this folder.

In a block of `sh`, `bash` or `console` every `cascade ...` is parsed as the command line would, and has to be
complete. Within a sentence it may leave things out.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
import typer.main

from cascade.cli import app
from cascade.lab import bench

from .pages import ROOT, each_page

BLOCK = re.compile(r"^```(?:sh|bash|console)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
HELP_EXAMPLE = re.compile(r"^    (cascade .*)$", re.MULTILINE)
IN_A_SENTENCE = re.compile(r"`((?:cascade|make|python) [^`\n]+)`")
ENDS = {"|", "||", "&&", "&", ";", ">", "2>", "<"}
"""What follows is the shell's."""
LEFT_OUT = {"MissingParameter", "NoArgsIsHelpError"}


def commands_in(page: Path) -> list[tuple[list[str], bool]]:
    """Words of each command, and whether it is to be complete."""
    text = page.read_text(encoding="utf-8")
    lines = [line for block in BLOCK.findall(text) for line in joined(block)]
    if page.name == "commands.md":
        lines += HELP_EXAMPLE.findall(text)
    found = [
        (command, not line.startswith("CASCADE_")) for line in lines for command in simple_commands(line)
    ]
    sentences = IN_A_SENTENCE.findall(BLOCK.sub("", text))
    return found + [([word.split("|")[0] for word in shlex.split(code)], False) for code in sentences]


def joined(block: str) -> list[str]:
    """Lines, with those that go on in the next one; a prompt is no part of a command."""
    return [line.removeprefix("$ ") for line in block.replace("\\\n", " ").splitlines()]


def simple_commands(line: str) -> list[list[str]]:
    """What stands between pipes and the like, comments and settings of the environment left out."""
    try:
        words = shlex.split(line, comments=True)
    except ValueError:
        return []  # a text that goes over several lines: nothing of ours has one
    commands: list[list[str]] = [[]]
    for word in words:
        if word in ENDS:
            commands.append([])
        elif commands[-1] or not re.fullmatch(r"[A-Z_]+=.*", word):
            commands[-1].append(word)
    return [command for command in commands if command]


def why_not(words: list[str], *, is_complete: bool) -> str:
    """What is wrong with a command; nothing, if it would run."""
    match words[0]:
        case "cascade":
            return why_not_cascade(words[1:], is_complete=is_complete)
        case "make":
            rules = (ROOT / "Makefile").read_text(encoding="utf-8")
            targets = [word for word in words[1:] if "=" not in word and not word.startswith("-")]
            unknown = [name for name in targets if name.islower() and f"\n{name}:" not in rules]
            return f"no such target: {unknown}" if unknown else ""
        case "python" if len(words) > 1 and words[1].startswith(("examples/", "tools/")):
            is_there = (ROOT / words[1]).is_file() or not words[1].removesuffix(".py").islower()
            is_there = is_there or words[1].endswith("NAME.py")
            return "" if is_there else f"no such program: {words[1]}"
    return ""


def why_not_cascade(words: list[str], *, is_complete: bool) -> str:
    command: Any = typer.main.get_command(app)
    name, context = "cascade", None
    try:
        while True:
            context = command.make_context(name, words, parent=context)
            if not hasattr(command, "commands"):
                break
            words = [*context._protected_args, *context.args]
            name, command, words = command.resolve_command(context, words)
    except typer.Exit:
        return ""  # --help
    except Exception as error:
        is_short = type(error).__name__ in LEFT_OUT
        return "" if is_short and not is_complete else f"{type(error).__name__}: {error}"
    if name == "bench":
        benchmark = context.params["name"]
        known = [*bench.names(), "all", "list", "NAME"]
        return "" if benchmark in known else f"no such benchmark: {benchmark}"
    return ""


@each_page
def test_commands_would_run(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = {
        shlex.join(words): why
        for words, is_complete in commands_in(page)
        if (why := why_not(words, is_complete=is_complete))
    }
    assert wrong == {}


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("cascade serve --model m --http 0.0.0.0:8080 &", ""),
        ("CASCADE_MQTT=mqtt://a:b@c cascade edges --ca ca.crt", "mqtt"),
        ("cascade serve", "model"),
        ("cascade models", "fetch"),
        ("cascade serve --modle m", "modle"),
        ("cascade srve --model m", "srve"),
        ("cascade gateway --edge ws://a:1 --max-streams 0", "equal to 1"),
        ("cascade models fetch a b", "b"),
        ("cascade bench nothing", "no such benchmark"),
        ("make demo PYTHON=python3.12", ""),
        ("make tests", "no such target"),
        ("python examples/chat_app.py", ""),
        ("python examples/chat_ap.py", "no such program"),
    ],
)
def test_a_wrong_command_would_be_seen(line: str, why: str) -> None:
    (words,) = simple_commands(line)
    found = why_not(words, is_complete=True)
    assert bool(found) == bool(why)
    assert why in found
