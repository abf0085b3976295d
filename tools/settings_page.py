"""The reference of settings, docs/settings.md, is what the code says of them.

python tools/settings_page.py            exit code 1 where the reference is out of date
python tools/settings_page.py --write    bring it up to date
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pages import keep_up_to_date

ROOT = Path(__file__).parent.parent
REFERENCE = ROOT / "docs" / "settings.md"
INTRODUCTION = """\
# Settings

Everything that can be set, with its default, written by `make docs` from the code. It is checked when it is
made: a value out of range raises `SettingsError`, which names the field. The options of the command line are
in [commands.md](commands.md).
"""

SECTIONS: tuple[tuple[str, str, str], ...] = (
    (
        "cascade.device.options",
        "StreamSettings",
        "Keywords of `device.stream`, `generate` and a chat's turns.",
    ),
    ("cascade.device.route", "ReconnectSettings", "`Device.connect(..., reconnect=...)`."),
    (
        "cascade.device.policy",
        "Policy",
        "`device.stream(..., policy=...)`; mostly made by its class methods.",
    ),
    (
        "cascade.edge.settings",
        "EdgeSettings",
        "`cascade serve --config FILE`, a key each; `EdgeServer.of(...)`.",
    ),
    ("cascade.edge.quota", "Quota", "The table `[quota]` of that file, or `quota = {...}` of an identity."),
    ("cascade.apps.serving.options", "ServeOptions", "Options of `cascade serve`."),
    ("cascade.edge.replicas.settings", "ReplicaSettings", "Options of `cascade serve`, for engines on Ray."),
    ("cascade.edge.replicas.settings", "RaySettings", "Options of `cascade serve`, for the cluster."),
    (
        "cascade.apps.device_options",
        "DeviceOptions",
        "Options of `cascade chat`, `gateway` and `mqtt-gateway`.",
    ),
    ("cascade.apps.gateway.options", "GatewayOptions", "Options of `cascade gateway`."),
    ("cascade.apps.mqtt_gateway.settings", "GatewaySettings", "Options of `cascade mqtt-gateway`."),
    ("cascade.apps.chat.settings", "ChatSettings", "Options and orders of `cascade chat`."),
    ("cascade.apps.demo.story", "DemoOptions", "Options of `cascade demo`."),
    ("cascade.links.mqtt_client", "MqttSettings", "`MqttDialer(..., settings=...)`, and the listener's."),
    (
        "cascade.links.conditions",
        "Conditions",
        "Each way of an `EmulatedLink`; the tables of a profile's file.",
    ),
    ("cascade.models.distill.settings", "DistillSettings", "Options of `cascade distill`."),
    ("cascade.lab.experiment.settings", "ModelSettings", "In an experiment's file ([lab.md](lab.md))."),
    ("cascade.lab.experiment.settings", "LinkSettings", "In an experiment's file ([lab.md](lab.md))."),
    ("cascade.lab.experiment.settings", "LoadSettings", "In an experiment's file ([lab.md](lab.md))."),
    ("cascade.lab.experiment.settings", "PolicySettings", "In an experiment's file ([lab.md](lab.md))."),
    ("cascade.lab.experiment.settings", "PriceSettings", "In an experiment's file ([lab.md](lab.md))."),
    ("cascade.lab.experiment.settings", "PublishedSettings", "In an experiment's file ([lab.md](lab.md))."),
    ("cascade.lab.experiment.settings", "FigureSettings", "In an experiment's file ([lab.md](lab.md))."),
    ("cascade.lab.experiment.settings", "PriceSettings", "In an experiment's file ([lab.md](lab.md))."),
    ("cascade.lab.experiment.settings", "PublishedSettings", "In an experiment's file ([lab.md](lab.md))."),
)
"""Module, class, and where it is given."""

UNITS = (
    ("_bytes_per_s", "bytes a second"),
    ("tokens_per_s", "tokens a second"),
    ("messages_per_s", "messages a second"),
    ("_per_s", "a second"),
    ("s_per_token", "s a token"),
    ("_bytes", "bytes"),
    ("_rows", "rows"),
    ("_ms", "ms"),
    ("_s", "s"),
    ("minutes", "minutes"),
)
"""End of a field's name -> its unit; the first that fits."""
MAX_TEXT = 40


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
    """A field, as the page shows it."""

    name: str
    default: str
    unit: str
    bounds: str
    meaning: str


def settings_of(kind: type) -> list[Setting]:
    """The fields of a settings class, with what its source says of them."""
    source = ast.parse(inspect.getsource(kind)).body[0]
    assert isinstance(source, ast.ClassDef)
    meanings, bounds = dict(_meanings(source)), dict(_bounds(source))
    return [
        Setting(
            name=field.name,
            default=_default(field),
            unit=next((unit for end, unit in UNITS if f"_{field.name}".endswith(end)), ""),
            bounds=bounds.get(field.name, ""),
            meaning=meanings.get(field.name, ""),
        )
        for field in dataclasses.fields(kind)
        if not field.name.startswith("_")
    ]


def reference() -> str:
    parts = [INTRODUCTION]
    for module, name, where in SECTIONS:
        kind = getattr(importlib.import_module(module), name)
        about = inspect.cleandoc(kind.__doc__ or "").split("\n\n")[0].replace("\n", " ")
        parts.append(f"## {name}\n\n{about} {where} (`{module}`)\n")
        rows = [
            f"| `{each.name}` | {each.default} | {each.unit} | {each.bounds} | {each.meaning} |"
            for each in settings_of(kind)
        ]
        parts.append(
            "\n".join(["| name | default | unit | range | |", "|---|---|---|---|---|", *rows]) + "\n"
        )
    return "\n".join(parts)


def _meanings(source: ast.ClassDef) -> Iterator[tuple[str, str]]:
    """The text right behind each field."""
    for field, behind in zip(source.body, source.body[1:], strict=False):
        if not isinstance(field, ast.AnnAssign) or not isinstance(field.target, ast.Name):
            continue
        if isinstance(behind, ast.Expr) and isinstance(behind.value, ast.Constant):
            text = inspect.cleandoc(str(behind.value.value)).replace("\n", " ")
            yield field.target.id, text.replace("|", "\\|")


def _bounds(source: ast.ClassDef) -> Iterator[tuple[str, str]]:
    """From the checks of `__post_init__`: of one field, or of all that a loop names."""
    for node in ast.walk(source):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
            continue
        if node.func.id not in ("check_int", "check_number"):
            continue
        limits = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        low, high = limits.get("low"), limits.get("high")
        text = f"{low} to {high}" if low and high else f"from {low}" if low else f"to {high}" if high else ""
        if not text.replace(" ", "").replace("to", "").replace("from", "").strip("-.e0123456789*"):
            for name in _names(node.args, source):
                yield name, text


def _names(arguments: list[ast.expr], source: ast.ClassDef) -> list[str]:
    """The checked field: the attribute of self, else, in a loop, all names that it goes over."""
    if len(arguments) > 1 and isinstance(arguments[1], ast.Attribute):
        return [arguments[1].attr]
    loops = [node for node in ast.walk(source) if isinstance(node, ast.For)]
    for loop in loops:
        if any(argument is inner for argument in arguments for inner in ast.walk(loop)):
            found = loop.iter.elts if isinstance(loop.iter, ast.Tuple) else []
            return [str(one.value) for one in found if isinstance(one, ast.Constant)]
    return []


def _default(field: dataclasses.Field[Any]) -> str:
    if field.default is dataclasses.MISSING:
        if field.default_factory is dataclasses.MISSING:
            return "needed"
        name = getattr(field.default_factory, "__name__", "")
        return f"[{name}](#{name.lower()})" if name in {name for _, name, _ in SECTIONS} else "see there"
    value = field.default
    if isinstance(value, bool) or value is None or value == () or value == "":
        return {"True": "yes", "False": "no"}.get(str(value), "none")
    for shift, unit in ((30, "GiB"), (20, "MiB")):
        if field.name.endswith("bytes") and value % (1 << shift) == 0:
            return f"{value >> shift} {unit}"
    if isinstance(value, float):
        return f"{value:g}" if abs(value) < 1e5 else f"{value:.0f}"
    text = getattr(value, "value", value)
    return str(text)[:MAX_TEXT]


def main() -> int:
    return keep_up_to_date(REFERENCE, reference())


if __name__ == "__main__":
    raise SystemExit(main())
