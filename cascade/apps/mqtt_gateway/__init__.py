"""Answers for things without a model: questions come as MQTT messages, answers go back as MQTT messages."""

from .gateway import MqttGateway
from .settings import GatewaySettings

__all__ = ["GatewaySettings", "MqttGateway"]
