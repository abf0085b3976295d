"""What the settings of an MQTT connection say by themselves."""

from __future__ import annotations

from cascade.links.mqtt_client import MqttSettings


def test_waits_double_up_to_their_ceiling_and_never_overflow() -> None:
    settings = MqttSettings(backoff_first_s=0.1, backoff_ceiling_s=5.0)
    assert [settings.backoff_s(attempt) for attempt in (1, 2, 3)] == [0.2, 0.4, 0.8]
    assert settings.backoff_s(6) == settings.backoff_s(100_000) == 5.0
