"""Sensors speak MQTT; a gateway gathers what they say and lets the edge summarise it. Needs mosquitto.

    python examples/iot_gateway.py

All meet at one broker: sensors publish readings; the gateway reads them, asks an edge through it, and
publishes a summary for each room. The toy model at this edge gives the log back.
"""

from __future__ import annotations

import asyncio

import aiomqtt

from brokers.mosquitto import Mosquitto
from cascade import Device, EdgeServer
from cascade.links.mqtt import MqttListener
from cascade.models.echo import EchoModel
from cascade.testing import PacedRunner

ROOMS, NUM_READINGS = ("kitchen", "hall"), 5


async def gateway(broker: aiomqtt.Client, device: Device) -> None:
    """One summary for every few readings of a room, until each room has had its own."""
    logs: dict[str, list[str]] = {room: [] for room in ROOMS}
    async for message in broker.messages:
        room = str(message.topic).split("/")[1]
        logs[room].append(bytes(message.payload).decode())
        if len(logs[room]) == NUM_READINGS:
            question = f"Summarise this log of the {room} in one sentence:\n" + "\n".join(logs.pop(room))
            answer = await device.chat().generate(question, max_new_tokens=200)
            print(f"summaries/{room}: {answer}")
            await broker.publish(f"summaries/{room}", answer.text, qos=1)
            if not logs:
                return


async def sensor(broker: aiomqtt.Client, room: str) -> None:
    for minute in range(NUM_READINGS):
        await broker.publish(f"sensors/{room}/temperature", f"10:0{minute} {20 + minute / 4} C", qos=1)


async def main() -> None:
    async with (
        Mosquitto() as mosquitto,
        MqttListener(mosquitto.url, "attic") as listener,
        EdgeServer.of(EchoModel(), PacedRunner(lambda rows: 0.005)) as edge,
        aiomqtt.Client(mosquitto.host, mosquitto.port) as broker,
    ):
        edge.listen(listener)
        draft = EchoModel(slip=0.2)
        async with Device.connect(f"{mosquitto.url}/attic", draft=draft, identity="gateway") as device:
            await broker.subscribe("sensors/+/temperature", qos=1)
            await asyncio.gather(gateway(broker, device), *(sensor(broker, room) for room in ROOMS))


if __name__ == "__main__":
    asyncio.run(main())
