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
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="The experiment, or a folder: all of them, one report.")
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where records and report go.")],
    quick: Annotated[
        bool, typer.Option("--quick", help="In the quick form that the file describes.")
    ] = False,
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
      cascade lab run examples/lab --quick --out all
    """
    from . import lab as application

    if file.is_dir():
        application.run_all(file, out, quick=quick, jobs=jobs, as_json=as_json)
    else:
        application.run(file, out, quick=quick, jobs=jobs, as_json=as_json)


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
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The experiment.")],
    quick: Annotated[bool, typer.Option("--quick", help="In its quick form.")] = False,
    as_json: AsJson = False,
) -> None:
    """Say what an experiment would run, without running it.

    \b
    Example:
      cascade lab show examples/lab/first.toml
    """
    from . import lab as application

    application.show(file, quick=quick, as_json=as_json)


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
def export(
    folder: Folder,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where they go.", show_default="DIR/parquet")
    ] = None,
) -> None:
    """Write the records as Parquet: a file for each kind of line, and one for the runs.

    \b
    Example:
      cascade lab export first
    """
    from . import lab as application

    application.export(folder, out or folder / "parquet")


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
def peers(
    target: Annotated[str, typer.Option(help="A folder, a GGUF file or a name.")] = "smollm2-135m",
    draft: Annotated[str, typer.Option(help="The device's, and the assistant's.")] = "smollm2-135m-draft",
    link: Annotated[str, typer.Option(help="A profile, by name or file.")] = "lte",
    endpoint: Annotated[
        str, typer.Option(metavar="URL", help="An OpenAI-compatible endpoint, asked over the same link.")
    ] = "",
    endpoint_model: Annotated[str, typer.Option(metavar="NAME", help="What the endpoint calls it.")] = "",
    key_env: Annotated[
        str, typer.Option(metavar="VARIABLE", help="Where the endpoint's key is.")
    ] = "OPENAI_API_KEY",
    assisted: Annotated[bool, typer.Option(help="Ask transformers, too, plain and assisted.")] = True,
    questions: Annotated[int, typer.Option(min=1, max=8)] = 8,
    tokens: Annotated[int, typer.Option(min=2, help="Of each answer, at most.")] = 64,
    as_json: AsJson = False,
) -> None:
    """Ask the same questions of Cascade, of transformers and of an endpoint, in one run and in turns.

    Cascade (plain streaming and adaptive) and the endpoint are asked over the emulated link; transformers
    generates beside it, with target and draft on one machine.

    \b
    Example:
      cascade lab peers --link lte
      cascade lab peers --endpoint http://127.0.0.1:8000/v1 --endpoint-model smollm2 --no-assisted
    """
    from . import lab as application

    application.peers(
        target,
        draft,
        link,
        endpoint=endpoint,
        endpoint_model=endpoint_model,
        key_env=key_env,
        has_assisted=assisted,
        num_questions=questions,
        num_tokens=tokens,
        as_json=as_json,
    )


@lab.command()
def record(
    out: Annotated[Path, typer.Option(metavar="FILE", help="Where it goes: NAME.json.gz.")],
    target: Annotated[str, typer.Option(help="A folder, a GGUF file or a name.")] = "smollm2-135m",
    draft: Annotated[str, typer.Option(help="One that `cascade distill` made.")] = "smollm2-135m-draft",
    texts: Annotated[int, typer.Option(min=1, help="Of the draft's held-out prompts.")] = 24,
    tokens: Annotated[int, typer.Option(min=8, help="Of each answer, at most.")] = 200,
) -> None:
    """Record a real pair, for experiments with `models.kind = "paced"`.

    The target answers greedily; at each place it is written down what the draft would have said, and how
    sure it was.

    \b
    Example:
      cascade lab record --out my-pair.json.gz --texts 40
    """
    from . import lab as application

    application.record(out, target, draft, num_texts=texts, num_tokens=tokens)


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
