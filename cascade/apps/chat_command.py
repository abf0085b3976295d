"""`cascade chat` as the command line sees it. Imports are late, as in `cli.py`."""

from __future__ import annotations

from typing import Annotated

import typer

from .device_options import (
    BUNDLED_DRAFT,
    NEAR_EDGE,
    CaOption,
    DeviceOptions,
    DraftOption,
    IdentityOption,
    ThreadsOption,
    TokenizerOption,
    TokenOption,
    edge_option,
)

__all__ = ["chat"]


def chat(
    edge: Annotated[list[str], edge_option()] = [NEAR_EDGE],  # noqa: B006 -- typer copies it
    draft: DraftOption = BUNDLED_DRAFT,
    tokenizer: TokenizerOption = "",
    identity: IdentityOption = "chat",
    token: TokenOption = "",
    ca: CaOption = None,
    threads: ThreadsOption = 1,
    system: Annotated[
        str, typer.Option(metavar="TEXT", help="What the model is told before everything else.")
    ] = "",
    tokens: Annotated[int, typer.Option(min=1, help="Tokens in an answer, at most.")] = 400,
    temperature: Annotated[
        float, typer.Option(min=0, max=10, help="0 takes the likeliest token; higher is more varied.")
    ] = 0.7,
    seed: Annotated[
        int | None, typer.Option(min=0, help="The same seed gives the same answers to the same questions.")
    ] = None,
    quality: Annotated[
        float,
        typer.Option(
            min=0.5, max=1, help="The least share of tokens that are the edge's own; see docs/cascade.md."
        ),
    ] = 1.0,
    private: Annotated[
        bool, typer.Option("--private", help="The device answers alone, and nothing leaves it.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
) -> None:
    """Talk with an edge's model in this terminal.

    Each token is tinted by who was first with it; /help lists what a conversation understands besides
    questions. Ctrl-C stops an answer, and leaves where there is none. Without a terminal every line of
    standard input is a question, and the answers alone are printed.

    \b
    Example:
      cascade chat --edge ws://192.168.1.20:8080
      echo "Why is the sky blue?" | cascade chat --temperature 0
    """
    from .chat.main import main
    from .chat.settings import ChatSettings

    code = main(
        DeviceOptions(
            edges=tuple(edge),
            draft=draft,
            tokenizer=tokenizer,
            identity=identity,
            token=token,
            ca=ca,
            num_threads=threads,
        ),
        ChatSettings(
            max_new_tokens=tokens,
            temperature=temperature,
            seed=seed,
            quality=quality,
            is_private=private,
            system=system,
        ),
        json_output=as_json,
    )
    raise typer.Exit(code)
