"""What the pages for operators and for other languages show is what the server does."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import subprocess
from pathlib import Path

import aiohttp
import msgpack
import pytest

from cascade.apps.serving.metrics import EdgeCollector
from cascade.apps.serving.verify_page import KEYS
from cascade.edge import EdgeServer, EdgeSettings, Quota, State
from cascade.testing import PacedRunner, SyntheticTarget

from .servers import post, serving

DOCS = Path(__file__).parents[2] / "docs"
HTTP = (DOCS / "http.md").read_text()
EDGE = (DOCS / "edge.md").read_text()
JSON_BLOCK = re.compile(r"^```json\n(.*?)^```$", re.DOTALL | re.MULTILINE)
HEX_LINE = re.compile(r"^(?:[0-9a-f]{2} )+[0-9a-f]{2}$", re.MULTILINE)


async def test_the_examples_of_verify_are_what_it_answers() -> None:
    request, answer, error = [json.loads(block) for block in JSON_BLOCK.findall(HTTP)]
    packed_request, packed_answer = [bytes.fromhex(line) for line in HEX_LINE.findall(HTTP)]
    assert msgpack.packb(request) == packed_request
    async with serving() as server:
        assert await post(server, request) == (200, answer)
        async with (
            aiohttp.ClientSession() as session,
            session.post(
                server.http_url + "/v1/verify",
                data=packed_request,
                headers={"Content-Type": "application/msgpack"},
            ) as got,
        ):
            assert await got.read() == packed_answer
        assert set(error["error"]) == {"code", "text", "retry_after_s"}


def test_every_field_of_verify_is_documented() -> None:
    for key in KEYS:
        assert f"`{key}`" in HTTP


def test_every_limit_and_state_is_documented() -> None:
    names = {field.name for kind in (EdgeSettings, Quota) for field in dataclasses.fields(kind)}
    for name in names - {"quota"}:
        assert f"`{name}`" in EDGE, name
    for state in State:
        assert f"`{state.value}`" in EDGE


def test_metrics_on_the_page_exist() -> None:
    edge = EdgeServer.of(SyntheticTarget(), PacedRunner(lambda rows: 0.01))
    families = EdgeCollector(edge)._totals()
    known = {family.name for family in families} | {f.name for f in EdgeCollector(edge)._by_label()}
    for name in re.findall(r"`(cascade_\w+_total)", EDGE):
        if not name.startswith("cascade_identity_"):
            assert name.removesuffix("_total") in known, name


def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    unit = tmp_path / "cascade-edge.service"
    text = (DOCS / "deploy" / "cascade-edge.service").read_text()
    # It looks whether the program is there: let it find one.
    unit.write_text(text.replace("/opt/cascade/bin/cascade", "/bin/true"))
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "cascade-edge" not in done.stderr, done.stderr
