"""Every MQTT topic that the code uses is in the tables of the docs, and the other way round."""

from __future__ import annotations

import re

from cascade.apps.mqtt_gateway import topics
from cascade.apps.mqtt_gateway.discovery import discovery
from cascade.links import mqtt_frames

from .pages import ROOT

ROW = re.compile(r"^\| `((?:cascade/v1|homeassistant)/[^`]+)` \|", re.MULTILINE)

LINKS = {
    mqtt_frames.pool_open("P", "D"),
    mqtt_frames.device_in("E", "D"),
    mqtt_frames.device_out("D"),
    *(mqtt_frames.status(side, name) for side, name in (("edges", "E"), ("devices", "D"))),
    *(mqtt_frames.info(side, name) for side, name in (("edges", "E"), ("devices", "D"))),
}
QUESTIONS = {
    topics.asks("G", "T"),
    topics.answer("G", "T"),
    topics.pieces("G", "T"),
    topics.gateway_status("G"),
    topics.gateway_state("G"),
}


def documented(page: str) -> set[str]:
    """With the names that this test uses."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    names = {"<pool>": "P", "<device>": "D", "<edge>": "E", "<gateway>": "G", "<thing>": "T"}
    rows = ROW.findall(text)
    for name, short in names.items():
        rows = [row.replace(name, short) for row in rows]
    return set(rows)


def test_topics_of_links() -> None:
    assert documented("mqtt.md") == LINKS


def test_topics_of_questions() -> None:
    found = documented("mqtt-gateway.md")
    (announcement,) = found - QUESTIONS
    assert found - {announcement} == QUESTIONS
    pattern = re.sub(r"<\w+>", r"[\\w-]+", announcement)
    assert all(re.fullmatch(pattern, topic) for topic in discovery("G"))
