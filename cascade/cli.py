"""The `cascade` command.

Imports are late: `cascade --help` must not wait for what one command needs.

Exit codes: 0 done, 1 a bug of ours (with traceback), 2 wrong usage or a `CascadeError`, 130 interrupted.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from . import __version__
from .apps import (
    advise_command,
    broker,
    chat_command,
    demo_command,
    edges,
    gateway_command,
    lab_commands,
    link_command,
    model_commands,
    mqtt_gateway_command,
    serve_command,
    top_command,
)
from .errors import CascadeError

__all__ = ["app", "main"]

app = typer.Typer(
    name="cascade",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # plain text: the same in a pipe, in the README and on a serial console
    pretty_exceptions_enable=False,
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit; the entry point of the `cascade` script."""
    try:
        app(args=arguments, prog_name="cascade")
    except CascadeError as error:
        typer.echo(f"cascade: {error}", err=True)
        raise SystemExit(2) from None


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"cascade {__version__}")
        raise typer.Exit


@app.callback()
def cascade(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and stop."),
    ] = False,
) -> None:
    """Let a small model on a device and a large one on an edge server answer together.

    \b
    Example:
      cascade demo
    """


app.command()(demo_command.demo)
app.command()(advise_command.advise)


@app.command()
def bench(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="A benchmark, 'all', or 'list' to see their names.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer repeats: a look, not a measurement.")] = False,
    real: Annotated[
        bool, typer.Option("--real", help="The real target instead of virtual time (edge, cascade).")
    ] = False,
    busy: Annotated[
        bool, typer.Option("--busy", help="Another process wants the device's core (pair).")
    ] = False,
    plot: Annotated[str | None, typer.Option(metavar="FILE", help="Draw what can be drawn.")] = None,
    jobs: Annotated[
        int | None,
        typer.Option(min=1, help="Processes for campaigns in virtual time; one per core if not given."),
    ] = None,
    resume: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="Keep a campaign's figures here, and go on from there (scheduler)."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write NAME.json there, with date, command, hardware, versions."),
    ] = None,
) -> None:
    """Measure a part of Cascade on this machine.

    \b
    Example:
      cascade bench decoding --json
      cascade bench edge --real
      cascade bench scheduler --jobs 2 --resume grid.jsonl
      cascade bench all --quick --out out/bench
    """
    from .lab import bench as benchmarks

    if name == "list":
        for known, about in benchmarks.catalogue().items():
            typer.echo(f"{known:<12} {about}")
        return
    if out is not None:
        benchmarks.check_folder(out)
    for chosen in benchmarks.installed() if name == "all" else [name]:
        report = benchmarks.run(
            chosen, quick=quick, real=real, busy=busy, plot=plot, jobs=jobs, resume=resume
        )
        if out is not None:
            chosen_options = {"--quick": quick, "--real": real, "--busy": busy}
            benchmarks.store(report, out, options=[name for name, is_on in chosen_options.items() if is_on])
        if as_json:
            typer.echo(json.dumps(report))
        else:
            from .lab.tables import print_report

            print_report(report)
        sys.stdout.flush()  # a long campaign shows each result as it comes


app.command()(broker.broker)
app.command()(chat_command.chat)
app.command()(edges.edges)
app.command()(gateway_command.gateway)
app.command()(link_command.link)
app.command()(mqtt_gateway_command.mqtt_gateway)
app.command()(serve_command.serve)
app.command()(top_command.top)
app.command()(model_commands.distill)
app.add_typer(model_commands.models)
app.add_typer(lab_commands.lab)


if __name__ == "__main__":
    main()
