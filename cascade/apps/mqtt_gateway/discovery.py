"""What Home Assistant has to know to show a gateway: messages for its MQTT discovery, retained."""

from __future__ import annotations

import json
from typing import Any

from ... import __version__
from . import topics

__all__ = ["HOME_ASSISTANT", "discovery"]

HOME_ASSISTANT = "home-assistant"
"""The thing as which Home Assistant asks."""
ANSWER_TEMPLATE = "{{ (value_json.data.answer or value_json.error or value_json.status)[:255] }}"
MAX_TEXT = 255
"""Home Assistant's limit for the state of an entity, and for what a text entity takes."""


def discovery(gateway: str, prefix: str = "homeassistant") -> dict[str, str]:
    """Topic -> payload: a text entity that asks, sensors for the answer, the latency and the link."""
    state, reply = topics.gateway_state(gateway), topics.answer(gateway, HOME_ASSISTANT)
    entities: list[tuple[str, str, dict[str, Any]]] = [
        (
            "text",
            "question",
            {
                "name": "Question",
                "icon": "mdi:chat-question",
                "command_topic": topics.asks(gateway, HOME_ASSISTANT),
                "min": 1,
                "max": MAX_TEXT,
            },
        ),
        (
            "sensor",
            "answer",
            {
                "name": "Answer",
                "icon": "mdi:chat",
                "state_topic": reply,
                "value_template": ANSWER_TEMPLATE,
                "json_attributes_topic": reply,
            },
        ),
        (
            "binary_sensor",
            "edge",
            {
                "name": "Edge",
                "device_class": "connectivity",
                "state_topic": state,
                "value_template": "{{ 'ON' if value_json.edge == 'online' else 'OFF' }}",
                "entity_category": "diagnostic",
            },
        ),
        ("sensor", "first_token", _milliseconds("First token", state, "first_token_ms")),
        ("sensor", "round_trip", _milliseconds("Round trip", state, "rtt_ms")),
        (
            "sensor",
            "waiting",
            {
                "name": "Questions waiting",
                "icon": "mdi:tray-full",
                "state_topic": state,
                "value_template": "{{ value_json.waiting }}",
                "state_class": "measurement",
                "entity_category": "diagnostic",
            },
        ),
    ]
    node = _node(gateway)
    common = {
        "availability_topic": topics.gateway_status(gateway),
        "device": {
            "identifiers": [node],
            "name": f"Cascade {gateway}",
            "manufacturer": "Cascade",
            "model": "MQTT gateway",
            "sw_version": __version__,
        },
        "origin": {"name": "cascade", "sw_version": __version__},
    }
    return {
        f"{prefix}/{component}/{node}/{name}/config": json.dumps(
            {"unique_id": f"{node}_{name}", **fields, **common}
        )
        for component, name, fields in entities
    }


def _milliseconds(name: str, state: str, key: str) -> dict[str, Any]:
    return {
        "name": name,
        "device_class": "duration",
        "unit_of_measurement": "ms",
        "state_class": "measurement",
        "state_topic": state,
        "value_template": f"{{{{ value_json.{key} }}}}",
        "entity_category": "diagnostic",
    }


def _node(gateway: str) -> str:
    """Home Assistant takes letters, digits, _ and - in its topics."""
    return "cascade_" + "".join(letter if letter.isalnum() or letter in "_-" else "_" for letter in gateway)
