"""`cascade serve` as the command line sees it. Imports are late, as in `cli.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["serve"]


def serve(
    model: Annotated[
        str,
        typer.Option(
            metavar="REF", help="A bundled name, a folder, a .gguf file, a hub id; or 'synthetic' to try it."
        ),
    ],
    http: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Where to listen; port 0 takes a free one.")
    ] = "127.0.0.1:8080",
    mqtt: Annotated[
        str,
        typer.Option(
            metavar="URL",
            envvar="CASCADE_MQTT",
            help="Listen at this broker too: mqtt://user:password@host:port, or mqtts:// for TLS.",
        ),
    ] = "",
    mqtt_ca: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="With mqtts://, the CA that the broker's certificate is of."),
    ] = None,
    name: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="What devices call this edge; by default its account's name at the broker, or 'edge'.",
        ),
    ] = "",
    tokens: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Identities and their bearer tokens (TOML); read again on change."),
    ] = None,
    tls_cert: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Certificate chain; read again on change.")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(metavar="FILE", help="Its private key.")] = None,
    client_ca: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Let in only clients with a certificate of this CA.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Limits and quotas (TOML); see docs/edge.md.")
    ] = None,
    drain_seconds: Annotated[
        float, typer.Option(min=0, help="How long sessions may go on once it is told to stop.")
    ] = 30.0,
    dtype: Annotated[str, typer.Option(help="What the model computes in.")] = "bfloat16",
    exact: Annotated[bool, typer.Option("--exact", help="Results that no batch changes; slower.")] = False,
    threads: Annotated[
        int, typer.Option(min=0, help="Threads to compute with; 0 tries what is fastest.")
    ] = 0,
    engine: Annotated[
        str, typer.Option(help="What decodes: 'torch', ours, or 'vllm', which is installed apart.")
    ] = "torch",
    vllm: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="With --engine vllm, an argument of its own, as max_model_len=8192; may be repeated.",
        ),
    ] = None,
    ray: Annotated[
        str,
        typer.Option(
            metavar="ADDRESS",
            help="Decode in replicas on a Ray cluster: 'auto' or HOST:PORT; 'local' starts one here.",
        ),
    ] = "",
    replicas: Annotated[int, typer.Option(min=1, help="With --ray, how many engines share the work.")] = 1,
    max_replicas: Annotated[
        int | None,
        typer.Option(min=1, help="Up to so many, as the load wants it.", show_default="as --replicas"),
    ] = None,
    texts_per_replica: Annotated[
        int, typer.Option(min=1, help="With --max-replicas, more texts than this for each start another.")
    ] = 32,
    replica_cpus: Annotated[
        float, typer.Option(min=0, help="With --ray, CPUs that each of them books.")
    ] = 1.0,
    replica_gpus: Annotated[
        float, typer.Option(min=0, help="With --ray, GPUs that each of them books; 0.5 is half of one.")
    ] = 0.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print where it listens as JSON.")] = False,
) -> None:
    """Serve a model to devices, until Ctrl-C or SIGTERM.

    One port has it all: links at /v1/link, POST /v1/verify, /health and /metrics. Sessions are logged to
    standard error, a line of JSON each. SIGHUP reads tokens and certificates again.

    \b
    Example:
      cascade serve --model smollm2-135m --http 0.0.0.0:8080 --tokens tokens.toml
    """
    from ..edge import EdgeSettings
    from ..edge.replicas import RaySettings, ReplicaSettings
    from ..errors import SettingsError
    from ..links.urls import account_in
    from .serve import main
    from .serving.engines import recipe_for
    from .serving.options import ServeOptions, parse_address, parse_arguments, read_config

    host, port = parse_address(http)
    options = ServeOptions(
        name=name or account_in(mqtt) or "edge",
        host=host,
        port=port,
        mqtt=mqtt,
        mqtt_ca=mqtt_ca,
        tokens=tokens,
        tls_cert=tls_cert,
        tls_key=tls_key,
        client_ca=client_ca,
        drain_s=drain_seconds,
        edge=EdgeSettings() if config is None else read_config(config),
    )
    if (replicas > 1 or max_replicas is not None) and not ray:
        raise SettingsError("replicas", "several engines need --ray, for example --ray local")
    recipe = recipe_for(
        engine,
        ref=model,
        dtype=dtype,
        exact=exact,
        num_threads=threads or None,
        edge=options.edge,
        arguments=parse_arguments(vllm or []),
    )
    code = main(
        recipe,
        options,
        ray=RaySettings(address=ray, num_cpus=replica_cpus, num_gpus=replica_gpus) if ray else None,
        replicas=ReplicaSettings(
            num_replicas=replicas,
            max_replicas=max_replicas,
            texts_per_replica=texts_per_replica,
            goal_s_per_token=options.edge.goal_s_per_token,
        ),
        json_output=as_json,
    )
    raise typer.Exit(code)
