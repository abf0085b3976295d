"""The command `cascade advise`. Imports are late, as in `cli.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["advise"]


def advise(
    draft: Annotated[
        str | None, typer.Option(metavar="REF", help="Measure this draft here: a bundled name or a folder.")
    ] = None,
    draft_step_ms: Annotated[
        float | None, typer.Option(metavar="MS", help="Declare a draft's step instead; 0: there is no draft.")
    ] = None,
    draft_joules: Annotated[
        float | None, typer.Option(metavar="J", help="What a step of it takes out of the battery.")
    ] = None,
    edge: Annotated[
        str | None,
        typer.Option(metavar="URL", envvar="CASCADE_EDGE", help="Measure this edge, and the link to it."),
    ] = None,
    token: Annotated[
        str, typer.Option(metavar="TEXT", envvar="CASCADE_TOKEN", help="What proves who we are to it.")
    ] = "",
    pass_ms: Annotated[
        float | None, typer.Option(metavar="MS", help="Declare the edge's pass of one row instead.")
    ] = None,
    row_ms: Annotated[
        float | None, typer.Option(metavar="MS", help="And what each further row adds to it; 0 unless given.")
    ] = None,
    profile: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The link: one of `cascade link --list`, or a TOML file."),
    ] = None,
    rtt_ms: Annotated[
        float | None, typer.Option(metavar="MS", help="Or its round trip; both instead of the measured link.")
    ] = None,
    jitter_ms: Annotated[
        float | None, typer.Option(metavar="MS", help="Mean delay that comes on top either way.")
    ] = None,
    agreement: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE", help="How often draft and target agree; 0.8 where nothing was measured."
        ),
    ] = None,
    quality: Annotated[
        float, typer.Option(metavar="SHARE", help="Least share of tokens that are the target's own pick.")
    ] = 0.9,
    objective: Annotated[str, typer.Option(metavar="NAME", help="latency, balanced or cost.")] = "latency",
    prices: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Your own prices, a TOML file, in place of an objective's."),
    ] = None,
    device_load: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE", help="Of the processor that others take; measured with --draft, else 0."
        ),
    ] = None,
    edge_load: Annotated[
        float, typer.Option(metavar="SHARE", help="Of the edge's time that others take.")
    ] = 0.0,
    prompt_tokens: Annotated[int, typer.Option(min=1, help="Length of a prompt.")] = 100,
    tokens: Annotated[int, typer.Option(min=1, help="Length of an answer.")] = 100,
    plot: Annotated[
        str | None, typer.Option(metavar="FILE", help="Draw cost and time over round trip, load and price.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Say which mode suits a place: the device alone, cascade, lossless, or cloud.

    Measures this device and an edge, or takes what is declared, and predicts for each mode the time to the
    first token, the time per token, cost and energy; then from which round trip, load or price on another
    mode would be the best one. Takes some seconds.

    \b
    Example:
      cascade advise --draft-step-ms 5 --pass-ms 50 --profile lte
      cascade advise --draft smollm2-135m-draft --edge ws://edge:8080 --prices prices.toml
    """
    from .advise import Wanted, main

    main(
        Wanted(
            draft=draft,
            draft_step_ms=draft_step_ms,
            draft_joules=draft_joules,
            edge=edge,
            token=token,
            pass_ms=pass_ms,
            row_ms=row_ms,
            profile=profile,
            rtt_ms=rtt_ms,
            jitter_ms=jitter_ms,
            agreement=agreement,
            quality=quality,
            objective=objective,
            prices=prices,
            device_load=device_load,
            edge_load=edge_load,
            num_prompt_tokens=prompt_tokens,
            num_tokens=tokens,
        ),
        plot=plot,
        json_output=as_json,
    )
