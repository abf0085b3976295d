"""`cascade lab`: run experiments over emulated links, draw them, check them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["lab"]

lab = typer.Typer(name="lab", no_args_is_help=True, add_completion=False, rich_markup_mode=None)
SHIPPED = Path("examples/lab")
Folder = Annotated[Path, typer.Argument(metavar="DIR", help="What `run` wrote.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@lab.callback()
def about() -> None:
    """Run latency experiments over emulated links, and draw them.

    An experiment is a TOML file: models, link, load, policy, and a grid over any of their settings.

    \b
    Example:
      cascade lab run examples/lab/first.toml --out first
    """


@lab.command()
def run(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The experiment.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where records and report go.")],
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Runs side by side.", show_default="one for each core")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run an experiment, or what is left of it, and write its report.

    Interrupt it when you like: the same command goes on where it was.

    \b
    Example:
      cascade lab run examples/lab/first.toml --out first
    """
    from . import lab as application

    application.run(file, out, jobs=jobs, as_json=as_json)


@lab.command("list")
def list_experiments(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where experiments lie.")] = SHIPPED,
    as_json: AsJson = False,
) -> None:
    """List the experiments in a folder: what each asks, and how many runs it takes.

    \b
    Example:
      cascade lab list
    """
    from . import lab as application

    application.list_experiments(folder, as_json=as_json)


@lab.command()
def show(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The experiment.")], as_json: AsJson = False
) -> None:
    """Say what an experiment would run, without running it.

    \b
    Example:
      cascade lab show examples/lab/first.toml
    """
    from . import lab as application

    application.show(file, as_json=as_json)


@lab.command()
def report(folder: Folder) -> None:
    """Draw the report again from the records.

    \b
    Example:
      cascade lab report first
    """
    from . import lab as application

    application.report(folder)


@lab.command()
def compare(
    before: Annotated[Path, typer.Argument(metavar="DIR", help="An experiment's folder.")],
    after: Annotated[Path, typer.Argument(metavar="DIR", help="Another, of the same points.")],
    figure: Annotated[str, typer.Option(metavar="NAME", help="What to compare.")] = "ms_per_token",
    as_json: AsJson = False,
) -> None:
    """Compare two folders point by point: the same experiment by two versions, say.

    \b
    Example:
      cascade lab compare first-before first --figure bytes_per_token
    """
    from . import lab as application

    application.compare(before, after, figure, as_json=as_json)


@lab.command()
def check(folder: Folder, as_json: AsJson = False) -> None:
    """Compute every figure again from the raw lines; exit code 2 where one differs.

    \b
    Example:
      cascade lab check first
    """
    from . import lab as application

    application.check(folder, as_json=as_json)


@lab.command()
def fluid(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The experiment.")],
    devices: Annotated[
        list[int] | None, typer.Option(metavar="N", help="So many; may be said again.", show_default="10000")
    ] = None,
    goal: Annotated[
        list[float] | None, typer.Option(metavar="MS", help="Hold this time per token; may be said again.")
    ] = None,
    edges: Annotated[
        int | None, typer.Option(min=1, help="So many edges share them.", show_default="the file's")
    ] = None,
    broker: Annotated[
        list[float] | None,
        typer.Option(metavar="N", help="They share a broker that takes so many messages a second."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Ask the fluid model, without running anything: for crowds that no simulation carries.

    It knows plain streaming and devices that draft without patience, on links of a constant delay.

    \b
    Example:
      cascade lab fluid examples/lab/scale.toml --devices 10000 --goal 60 --edges 100
    """
    from . import lab_fluid

    lab_fluid.ask(
        file,
        devices=devices or [10_000],
        goals_ms=goal or [],
        edges=edges,
        brokers_per_s=broker or [],
        as_json=as_json,
    )
