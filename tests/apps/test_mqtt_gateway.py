"""The MQTT gateway, asked by mosquitto's own tools through a real mosquitto with the shipped access list."""

from __future__ import annotations

import asyncio
import json
import stat
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import jinja2
import pytest

from brokers.embedded import EmbeddedBroker
from brokers.mosquitto import Mosquitto, find
from cascade import Device, EdgeServer
from cascade.apps.mqtt_gateway import GatewaySettings, MqttGateway
from cascade.apps.mqtt_gateway.discovery import discovery
from cascade.apps.mqtt_gateway.questions import BadQuestion, Question, read_question
from cascade.apps.mqtt_gateway.shelf import Shelf
from cascade.apps.mqtt_gateway.topics import answer, asks, gateway_state, gateway_status, pieces
from cascade.apps.mqtt_gateway.turns import Turns
from cascade.device import ReconnectSettings
from cascade.errors import ModelError, SettingsError
from cascade.links.mqtt import MqttSettings
from cascade.models.echo import EchoModel
from cascade.testing import MemoryListener, PacedRunner

from ..helpers import in_virtual_time, tasks_left

GATEWAY = "gateway-1"
THINGS = ("kettle", "lamp", "mallory")
ACCOUNTS = {name: f"secret-of-{name}" for name in ("edge-1", GATEWAY, "home-assistant", *THINGS)}
QUICK = GatewaySettings(patience_s=0.3, piece_s=0.01)
SETTINGS = GatewaySettings()

needs_mosquitto = pytest.mark.needs_mosquitto


# Questions


def test_a_text_is_a_question() -> None:
    question = read_question("kettle", b" How hot? \n", SETTINGS)
    assert question == Question(
        thing="kettle", text="How hot?", system="", options={"max_new_tokens": SETTINGS.usual_new_tokens}
    )


def test_an_object_has_options() -> None:
    payload = {
        "question": "How hot?",
        "transaction": 7,
        "max_tokens": 9,
        "temperature": 0.5,
        "top_k": 3,
        "seed": 1,
        "stop": ".",
        "stream": False,
        "retain": True,
        "when_away": "device",
        "system": "Be brief.",
    }
    question = read_question("kettle", json.dumps(payload).encode(), SETTINGS)
    assert question.options == {"max_new_tokens": 9, "temperature": 0.5, "top_k": 3, "seed": 1, "stop": ["."]}
    assert (question.transaction, question.is_streamed, question.is_retained) == (7, False, True)
    assert (question.when_away, question.system) == ("device", "Be brief.")


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (b"", "question: is missing"),
        (b"  \n", "question: is missing"),
        (b"\xff\xfe", "question: must be UTF-8"),
        (b"{", "question: begins like a JSON object"),
        (b'{"a": ' * 5000, "question: "),
        (b'{"text": "x"}', "text: unknown; a question may have question"),
        (b'{"question": 5}', "question: is missing"),
        (b'{"question": "x", "max_tokens": 0}', "max_tokens: must be at least 1"),
        (b'{"question": "x", "max_tokens": 99999}', "max_tokens: must be at most 1024"),
        (b'{"question": "x", "max_tokens": true}', "max_tokens: must be an integer"),
        (b'{"question": "x", "temperature": "hot"}', "temperature: must be a finite number"),
        (b'{"question": "x", "temperature": NaN}', "temperature: must be a finite number"),
        (b'{"question": "x", "top_p": 0}', "top_p: must be at least"),
        (b'{"question": "x", "stop": [""]}', "stop: must be a text"),
        (b'{"question": "x", "stream": 1}', "stream: must be true or false"),
        (b'{"question": "x", "when_away": "never"}', "when_away: must be one of wait, device"),
        (b'{"question": "x", "transaction": [1]}', "transaction: must be a number or a text"),
        (b'{"question": "x", "system": 1}', "system: must be a text"),
        (b"x" * 20_000, "question: is 20000 bytes long; at most 16384"),
    ],
)
def test_what_is_no_question_says_why(payload: bytes, why: str) -> None:
    with pytest.raises(BadQuestion) as caught:
        read_question("kettle", payload, SETTINGS)
    assert str(caught.value).startswith(why)


def test_a_bad_question_keeps_its_transaction() -> None:
    with pytest.raises(BadQuestion) as caught:
        read_question("kettle", b'{"question": "x", "seed": -1, "transaction": "abc"}', SETTINGS)
    assert caught.value.transaction == "abc"


# Turns


@in_virtual_time
async def test_things_take_turns() -> None:
    turns: Turns[str] = Turns(max_each=4, max_all=6)
    for number in range(4):
        assert await turns.put("flood", f"flood {number}")
    assert not await turns.put("flood", "one too many of one thing")
    assert await turns.put("kettle", "kettle")
    assert await turns.put("lamp", "lamp")
    assert not await turns.put("fridge", "one too many of all")
    assert [await turns.take() for _ in range(6)] == [
        *("flood 0", "kettle", "lamp", "flood 1", "flood 2", "flood 3")
    ]
    waiting = asyncio.create_task(turns.take())
    await asyncio.sleep(1)
    assert not waiting.done()
    await turns.put("late", "late")
    assert await waiting == "late"


# The shelf


async def test_questions_lie_on_the_shelf_until_they_are_answered(tmp_path: Path) -> None:
    folder = tmp_path / "queue"
    shelf = Shelf(folder)
    assert await shelf.load() == []
    questions = [read_question("kettle", f"number {number}".encode(), SETTINGS) for number in range(3)]
    numbers = [await shelf.keep(question) for question in questions]
    (folder / "99.question.json").write_text("{}")  # nobody's
    for path in folder.glob("0*"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    await shelf.drop(numbers[1])
    again = Shelf(folder)
    assert await again.load() == [(numbers[0], questions[0]), (numbers[2], questions[2])]
    assert await again.keep(questions[0]) > numbers[2]


async def test_a_folder_that_cannot_be_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="queue: cannot use"):
        await Shelf(tmp_path / "file" / "queue").load()


# Home Assistant


def test_discovery_says_what_home_assistant_asks_for() -> None:
    """Its documentation: what each kind of entity must have, and what its topics may consist of."""
    needed = {"text": {"command_topic"}, "sensor": {"state_topic"}, "binary_sensor": {"state_topic"}}
    payloads = discovery(GATEWAY)
    unique = set()
    for topic, payload in payloads.items():
        prefix, component, node, name, last = topic.split("/")
        assert (prefix, last) == ("homeassistant", "config")
        assert f"{node}{name}".replace("_", "").replace("-", "").isalnum()
        fields: dict[str, Any] = json.loads(payload)
        assert needed[component] <= fields.keys()
        assert fields["availability_topic"] == gateway_status(GATEWAY)
        assert fields["device"]["identifiers"] == ["cascade_gateway-1"]
        unique.add(fields["unique_id"])
    assert len(unique) == len(payloads) == 6


# With mosquitto


class Ear:
    """`mosquitto_sub`: what it hears, line by line."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def hear(self) -> tuple[str, str]:
        assert self._process.stdout is not None
        line = (await self._process.stdout.readline()).decode().rstrip("\n")
        assert line, "mosquitto_sub ended"
        topic, _, payload = line.partition(" ")
        return topic, payload

    async def reply(self) -> dict[str, Any]:
        """The next message that is JSON: pieces of text are passed over."""
        while True:
            topic, payload = await self.hear()
            if "/tokens" not in topic:
                said: dict[str, Any] = json.loads(payload)
                return said


class House:
    """A broker, a gateway, an edge that may be away, and mosquitto's tools."""

    def __init__(self, broker: Mosquitto | EmbeddedBroker, stack: AsyncExitStack, queue: Path | None) -> None:
        self.broker = broker
        self.queue = queue
        self._stack = stack
        self._where = f"edge-{id(self)}"

    def open_device(self) -> Device:
        draft, runner = EchoModel(slip=0.2), PacedRunner(lambda rows: 0.001)
        reconnect = ReconnectSettings(first_s=0.01, ceiling_s=0.1)
        return Device.connect(f"memory:{self._where}", draft=draft, runner=runner, reconnect=reconnect)

    def gateway(self, *, settings: GatewaySettings = QUICK, prefix: str = "") -> MqttGateway:
        return MqttGateway(
            self.broker.url_for(GATEWAY) if self.broker.accounts else self.broker.url,
            GATEWAY,
            self.open_device,
            settings=settings,
            mqtt=MqttSettings(backoff_first_s=0.01, backoff_ceiling_s=0.2),
            queue=self.queue,
            discovery_prefix=prefix,
        )

    @asynccontextmanager
    async def edge(self) -> AsyncIterator[EdgeServer]:
        async with EdgeServer.of(EchoModel(), PacedRunner(lambda rows: 0.002)) as edge:
            edge.listen(MemoryListener(self._where))
            yield edge

    async def ear(self, thing: str, *topics: str, after: str = "") -> Ear:
        """Returns once the broker has subscribed it: then the gateway's retained status has come."""
        arguments = [*self.account(thing), "-v", "-t", gateway_status(GATEWAY)]
        for topic in topics:
            arguments += ["-t", topic]
        process = await asyncio.create_subprocess_exec(
            find("mosquitto_sub"), *arguments, stdout=asyncio.subprocess.PIPE
        )

        async def end() -> None:
            if process.returncode is None:
                process.kill()
            await process.communicate()

        self._stack.push_async_callback(end)
        ear = Ear(process)
        while (await ear.hear())[0] != gateway_status(GATEWAY):
            pass
        return ear

    async def say(self, thing: str, payload: str | dict[str, Any], *, to: str = "") -> None:
        text = payload if isinstance(payload, str) else json.dumps(payload)
        arguments = [*self.account(thing), "-q", "1", "-t", to or asks(GATEWAY, thing)]
        arguments += ["-m", text] if text else ["-n"]
        process = await asyncio.create_subprocess_exec(find("mosquitto_pub"), *arguments)
        assert await process.wait() == 0

    def account(self, name: str) -> list[str]:
        where = ["-p", str(self.broker.port), "-h", self.broker.host]
        return [*where, "-u", name, "-P", ACCOUNTS[name]] if self.broker.accounts else where


@asynccontextmanager
async def house(
    queue: Path | None = None,
    accounts: Mapping[str, str] = ACCOUNTS,
    kind: type[Mosquitto] | type[EmbeddedBroker] = Mosquitto,
) -> AsyncIterator[House]:
    """Without accounts everybody may hear everything."""
    async with kind(accounts=accounts, gateways=[GATEWAY]) as broker, AsyncExitStack() as stack:
        yield House(broker, stack, queue)
    assert tasks_left() == []


@needs_mosquitto
@pytest.mark.parametrize("kind", [Mosquitto, EmbeddedBroker])
async def test_a_thing_asks_and_is_answered(kind: type[Mosquitto] | type[EmbeddedBroker]) -> None:
    async with house(kind=kind) as home, home.edge(), home.gateway():
        ear = await home.ear("kettle", answer(GATEWAY, "kettle"), pieces(GATEWAY, "kettle"))
        await home.say("kettle", "How hot is it?")
        heard = [await ear.hear()]
        while heard[-1][0] != answer(GATEWAY, "kettle"):
            heard.append(await ear.hear())
        *streamed, (_, last) = heard
        said = json.loads(last)
        assert (said["status"], said["data"]["answer"]) == ("ok", "You said: How hot is it?")
        assert (said["data"]["by"], said["data"]["finish_reason"]) == ("edge", "stop")
        assert "transaction" not in said
        assert len(streamed) > 1
        assert "".join(text for _, text in streamed) == "You said: How hot is it?"
        await home.say(
            "kettle", {"question": "Again?", "transaction": "t-1", "stream": False, "max_tokens": 5}
        )
        topic, payload = await ear.hear()
        assert topic == answer(GATEWAY, "kettle")
        said = json.loads(payload)
        assert (said["transaction"], said["data"]["finish_reason"], said["data"]["tokens"]) == (
            "t-1",
            "length",
            5,
        )


@needs_mosquitto
async def test_what_is_malformed_is_answered_with_an_error() -> None:
    async with house() as home, home.edge(), home.gateway() as gateway:
        ear = await home.ear("kettle", answer(GATEWAY, "kettle"))
        for payload in ("", "{", '{"question": "x", "colour": "red", "transaction": 3}'):
            await home.say("kettle", payload)
            said = await ear.reply()
            assert (said["status"], said["data"]) == ("error", {})
            assert said["error"]
        assert said["transaction"] == 3
        await home.say("kettle", "and still it answers")
        assert (await ear.reply())["status"] == "ok"
        assert (gateway.num_answered, gateway.num_refused) == (1, 3)


@needs_mosquitto
async def test_fifty_at_once_are_served_fairly() -> None:
    """The kettle floods while the edge is away; the lamp asks one thing, and waits for a round at most."""
    settings = GatewaySettings(num_at_once=2, patience_s=60)
    async with house(accounts={}) as home, home.gateway(settings=settings) as gateway:
        ear = await home.ear("anybody", answer(GATEWAY, "+"))
        questions = [{"question": f"number {number}", "transaction": number} for number in range(49)]
        lines = "\n".join(json.dumps({**question, "stream": False}) for question in questions)
        flood = await asyncio.create_subprocess_exec(
            *(find("mosquitto_pub"), *home.account("kettle"), "-q", "1"),
            *("-t", asks(GATEWAY, "kettle"), "-l"),
            stdin=asyncio.subprocess.PIPE,
        )
        await flood.communicate(lines.encode())
        await until(lambda: gateway.num_waiting == 47)
        await home.say("lamp", "me too")
        await until(lambda: gateway.num_waiting == 48)
        async with home.edge():
            heard: list[tuple[str, dict[str, Any]]] = []
            while len(heard) < 50:
                topic, payload = await ear.hear()
                if topic != gateway_status(GATEWAY):
                    heard.append((topic, json.loads(payload)))
    assert [topic for topic, _ in heard].index(answer(GATEWAY, "lamp")) <= 4
    said = {one["transaction"]: one for topic, one in heard if topic == answer(GATEWAY, "kettle")}
    assert {number: one["data"]["answer"] for number, one in said.items()} == {
        number: f"You said: number {number}" for number in range(49)
    }


@needs_mosquitto
async def test_a_question_during_an_outage_is_answered_after_it_and_over_a_restart(tmp_path: Path) -> None:
    async with house(tmp_path / "queue") as home:
        async with home.gateway():
            ear = await home.ear("kettle", answer(GATEWAY, "kettle"))
            await home.say("kettle", {"question": "Anybody?", "transaction": 1, "stream": False})
            said = await ear.reply()
            assert (said["status"], said["transaction"]) == ("waiting", 1)
            await home.say("kettle", {"question": "Hello?", "transaction": 2, "stream": False})
            assert (await ear.reply())["status"] == "waiting"
            assert len(list((tmp_path / "queue").iterdir())) == 2
        ear = await home.ear("kettle", answer(GATEWAY, "kettle"))
        async with home.gateway(), home.edge():
            answers: dict[int, str] = {}
            while len(answers) < 2:
                topic, payload = await ear.hear()
                said = json.loads(payload) if topic == answer(GATEWAY, "kettle") else {}
                if said.get("status") == "ok":
                    answers[said["transaction"]] = said["data"]["answer"]
            assert answers == {1: "You said: Anybody?", 2: "You said: Hello?"}
            async with asyncio.timeout(30):  # answers go out first: better twice than never
                while list((tmp_path / "queue").iterdir()):  # noqa: ASYNC110  # a folder has no event
                    await asyncio.sleep(0.01)


@needs_mosquitto
async def test_the_draft_answers_where_it_may() -> None:
    async with house() as home, home.gateway():
        ear = await home.ear("kettle", answer(GATEWAY, "kettle"))
        question = {"question": "Anybody?", "when_away": "device", "max_tokens": 8, "stream": False}
        await home.say("kettle", question)
        said = await ear.reply()
        assert (said["status"], said["data"]["by"], said["data"]["tokens"]) == ("ok", "device", 8)


@needs_mosquitto
async def test_nobody_hears_anothers_answers_or_asks_as_him() -> None:
    async with house() as home, home.edge(), home.gateway() as gateway:
        kettle = await home.ear("kettle", answer(GATEWAY, "kettle"))
        mallory = await home.ear(
            "mallory",
            answer(GATEWAY, "kettle"),
            f"{answer(GATEWAY, 'kettle')}/#",
            "cascade/v1/#",
            "#",
            answer(GATEWAY, "mallory"),
        )
        await home.say("mallory", "as the kettle", to=asks(GATEWAY, "kettle"))
        await home.say("kettle", {"question": "secret", "stream": False})
        assert (await kettle.reply())["data"]["answer"] == "You said: secret"
        await home.say("mallory", {"question": "mine", "stream": False})
        while (heard := await mallory.hear())[0] != answer(GATEWAY, "mallory"):
            assert "secret" not in heard[1]
        assert json.loads(heard[1])["data"]["answer"] == "You said: mine"
        assert (gateway.num_answered, gateway.num_refused) == (2, 0)


@needs_mosquitto
async def test_a_broker_that_restarts_costs_no_answer() -> None:
    async with house() as home, home.gateway() as gateway:
        ear = await home.ear("kettle", answer(GATEWAY, "kettle"))
        await home.say("kettle", {"question": "Still there?", "stream": False})
        assert (await ear.reply())["status"] == "waiting"
        assert isinstance(home.broker, Mosquitto)
        await home.broker.kill()
        async with home.edge():
            await until(lambda: gateway.num_answered == 1)
            await home.broker.restart()
            late = await home.ear("kettle", answer(GATEWAY, "kettle"))
            await home.say("kettle", {"question": "And now?", "stream": False})
            said = [await late.reply()]
            if said[0]["data"]["answer"] != "You said: And now?":  # it may have come before our ear
                said.append(await late.reply())
            assert said[-1]["data"]["answer"] == "You said: And now?"


@needs_mosquitto
async def test_an_answer_does_not_wait_until_it_can_be_said_that_it_is_late() -> None:
    async with house() as home, home.gateway() as gateway:
        assert isinstance(home.broker, Mosquitto)
        await home.say("kettle", {"question": "Still there?", "stream": False})
        await until(lambda: gateway.num_asked == 1)
        await home.broker.kill()
        await until(lambda: gateway.is_edge_away)
        async with home.edge():
            await until(lambda: gateway.num_answered == 1)


@needs_mosquitto
async def test_home_assistant_finds_it_and_asks() -> None:
    async with house() as home, home.edge(), home.gateway(prefix="homeassistant"):
        ear = await home.ear("home-assistant", answer(GATEWAY, "home-assistant"))
        text = json.loads(discovery(GATEWAY)["homeassistant/text/cascade_gateway-1/question/config"])
        await home.say("home-assistant", "How are you?", to=text["command_topic"])
        assert (await ear.reply())["data"]["answer"] == "You said: How are you?"


@needs_mosquitto
async def test_what_home_assistant_hears_it_can_show() -> None:
    """Through the broker, under the shipped access list: every entity's template is rendered, as Home
    Assistant does, with what the gateway says, and gives a state that such an entity may have."""
    async with house() as home, home.edge(), home.gateway(prefix="homeassistant"):
        ear = await home.ear(
            "home-assistant",
            "homeassistant/#",
            answer(GATEWAY, "home-assistant"),
            gateway_state(GATEWAY),
        )
        configs: dict[str, dict[str, Any]] = {}
        states: dict[str, Any] = {}
        while len(configs) < 6 or gateway_state(GATEWAY) not in states:
            topic, payload = await ear.hear()
            (configs if topic.startswith("homeassistant/") else states)[topic] = json.loads(payload)
        assert configs == {topic: json.loads(text) for topic, text in discovery(GATEWAY).items()}
        await home.say("home-assistant", "How are you?")
        states[answer(GATEWAY, "home-assistant")] = await ear.reply()
        while not states[gateway_state(GATEWAY)]["first_token_ms"]:
            topic, payload = await ear.hear()
            states[topic] = json.loads(payload)
    shown = {}
    for topic, config in configs.items():
        _, component, _, name, _ = topic.split("/")
        assert config["availability_topic"] == gateway_status(GATEWAY), "online and offline are its defaults"
        assert config.get("entity_category", "diagnostic") == "diagnostic", "what is no setting"
        if component == "text":
            assert 0 <= config["min"] <= config["max"] <= 255
            continue
        value = states[config["state_topic"]]
        shown[name] = jinja2.Template(config["value_template"]).render(value_json=value)
        assert len(shown[name]) <= 255
        if component == "binary_sensor":
            assert shown[name] in ("ON", "OFF"), "its default payloads"
        elif config.get("state_class") == "measurement":
            assert float(shown[name]) >= 0, "a measurement is a number"
        if config.get("device_class") == "duration":
            assert config["unit_of_measurement"] in ("d", "h", "min", "s", "ms", "µs")
    assert shown["answer"] == "You said: How are you?"
    assert shown["edge"] == "ON"
    assert float(shown["first_token"]) > 0


@needs_mosquitto
async def test_a_device_that_cannot_be_ends_the_gateway(tmp_path: Path) -> None:
    async with house() as home, home.edge():
        home.open_device = lambda: Device.connect("memory:", draft=str(tmp_path / "nothing"))  # type: ignore[method-assign]
        async with home.gateway() as gateway:
            with pytest.raises(ModelError, match="no such file or folder"):
                await gateway.failed()


CASCADE = (sys.executable, "-m", "cascade.cli", "mqtt-gateway")


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--mqtt", "mqtt://a:b@127.0.0.1:1"], "cannot reach an MQTT broker at mqtt://127.0.0.1:1: "),
        (["--mqtt", "127.0.0.1"], "must be mqtt://host:port"),
        (["--mqtt", "mqtt://a:b@127.0.0.1:1", "--edge", "ftp://x"], "begins with none of"),
        (["--mqtt", "mqtt://a:b@127.0.0.1:1", "--ca", "/nowhere.pem"], "ca: cannot use /nowhere.pem"),
    ],
)
async def test_what_cannot_be_is_one_line(arguments: list[str], why: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *CASCADE, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await process.communicate()
    assert (process.returncode, out) == (2, b"")
    assert err.startswith(b"cascade: ")
    assert why in err.decode()
    assert err.count(b"\n") == 1
    assert b":b@" not in err


async def until(condition: Callable[[], bool]) -> None:
    """The test's own time limit ends a vain wait."""
    while not condition():  # noqa: ASYNC110  (nothing to wait for: the condition is over plain state)
        await asyncio.sleep(0.005)
