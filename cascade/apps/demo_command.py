"""`cascade demo` as the command line sees it. Imports are late, as in `cli.py`."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["demo"]


def demo(
    prompt: Annotated[str, typer.Option(metavar="TEXT", help="What to ask.")] = "How do I make a cup of tea?",
    profile: Annotated[
        str, typer.Option(metavar="NAME", help="The link between device and edge: see `cascade link --list`.")
    ] = "lte",
    mode: Annotated[
        str,
        typer.Option(
            metavar="MODE", help="hint-driven, cloud or ask-and-wait alone; all compares the three."
        ),
    ] = "all",
    http: Annotated[bool, typer.Option("--http", help="A WebSocket instead of an MQTT broker.")] = False,
    tokens: Annotated[int, typer.Option(min=2, max=4000, help="Tokens in an answer, at most.")] = 120,
    exact: Annotated[
        bool, typer.Option("--exact", help="An edge whose results no batch changes; slower.")
    ] = False,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave it running, with a chat page, until Ctrl-C.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, and nothing else.")] = False,
    model: Annotated[
        str, typer.Option(metavar="REF", help="Another target, as for `cascade serve`.")
    ] = "smollm2-135m",
    draft: Annotated[
        str, typer.Option(metavar="REF", help="Another draft, as for `cascade gateway`.")
    ] = "smollm2-135m-draft",
) -> None:
    """Ask a real model a question, over a link as a phone has it.

    Fetches the model once (93 MB). Then starts a broker, an edge and a device as processes of their own on
    this machine, streams the answer with each token's source, and compares with plain cloud streaming and
    with ask-and-wait speculation.

    \b
    Example:
      cascade demo
      cascade demo --profile geo --prompt "Write a haiku about rain." --keep
    """
    from .demo.story import DemoOptions, main

    options = DemoOptions(
        prompt=prompt,
        profile=profile,
        mode=mode,
        uses_http=http,
        max_tokens=tokens,
        is_json=as_json,
        is_exact=exact,
        is_kept=keep,
        model=model,
        draft=draft,
    )
    raise typer.Exit(main(options))
