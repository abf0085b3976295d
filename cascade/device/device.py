"""The device: what an app holds."""

from __future__ import annotations

import dataclasses
import random
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Unpack

from ..errors import CascadeError, SettingsError
from ..events import Account, Answer
from ..links.base import Dialer
from ..links.urls import dialer_for
from ..measure import Knowledge
from ..models.runner import Runner
from ..models.text import TextTokenizer
from ..settings import check_number
from ..wire import PROTOCOL_VERSION, Hello
from .answering import AnswerStream
from .chat import Chat
from .drafter import DraftMemory
from .equipment import Draft, Vocabulary, equip
from .ledger import Ledger, ledger_path
from .options import StreamOptions, StreamSettings
from .prompts import Prompt
from .route import ReconnectSettings
from .session import DeviceSession

__all__ = ["Device"]


class Device:
    """Streams answers from an edge, drafting ahead where it has a model to draft with.

        async with Device.connect("ws://edge:8080", draft="my-draft") as device:
            async for token in device.stream("Why is the sky blue?", max_new_tokens=200):
                print(token, end="", flush=True)

    One `async with` per device; meanwhile any number of tasks may use it.
    """

    def __init__(
        self,
        edges: Sequence[Dialer],
        *,
        draft: Draft = None,
        runner: Runner | None = None,
        tokenizer: TextTokenizer | str | Path | None = None,
        vocabulary: Vocabulary | None = None,
        identity: str = "device",
        token: str = "",
        model: str = "",
        reconnect: ReconnectSettings | None = None,
        connect_timeout_s: float = 10.0,
        knowledge: Knowledge | None = None,
        ledger: Ledger | None = None,
        seed: int | None = None,
    ) -> None:
        """As `connect`, with dialers in place of addresses.

        `knowledge` is what another device has measured of the same link, edge and draft, to begin with.
        Without a `ledger` the books are forgotten with the device.
        """
        if not edges:
            raise SettingsError("edges", "name at least one edge to dial")
        if runner is not None and draft is None:
            raise SettingsError("runner", "there is no draft for it to run; give both, or neither")
        check_number("connect_timeout_s", connect_timeout_s, low=0)
        self._edges = tuple(edges)
        self._draft, self._runner, self._tokenizer = draft, runner, tokenizer
        self._hello = Hello(
            version=PROTOCOL_VERSION,
            identity=identity,
            token=token,
            model=model,
            vocab_fingerprint="" if vocabulary is None else vocabulary.fingerprint,
            vocab_size=0 if vocabulary is None else vocabulary.size,
        )
        self._reconnect = reconnect or ReconnectSettings()
        self._connect_timeout_s = connect_timeout_s
        self._random: random.Random = random.SystemRandom() if seed is None else random.Random(seed)
        self._knowledge = knowledge or Knowledge()
        self._ledger = ledger or Ledger()
        self._was_entered = False
        self._session: DeviceSession | None = None

    @classmethod
    def connect(
        cls,
        *urls: str,
        draft: Draft = None,
        runner: Runner | None = None,
        tokenizer: TextTokenizer | str | Path | None = None,
        vocabulary: Vocabulary | None = None,
        identity: str = "device",
        token: str = "",
        model: str = "",
        ssl_context: ssl.SSLContext | None = None,
        proxy: str | None = None,
        reconnect: ReconnectSettings | None = None,
        connect_timeout_s: float = 10.0,
        ledger: Path | None = None,
        seed: int | None = None,
    ) -> Device:
        """A device for the edges at these addresses; where one is down or does not want it, the next serves.

        Addresses: `ws://`, `wss://`, `http://`, `https://`, `mqtt://user:password@broker/edge`, `mqtts://`,
        and `memory:` or `memory:name` for an edge in this process.

        - `draft`: a bundled name or a folder, which are loaded off the loop; a model, as `open_model` gives
          it; `"suffix"`, which needs neither weights nor torch; or None for plain streaming. `runner` says
          how its steps take time: in a thread of their own, unless the model is synthetic.
        - `tokenizer`: a folder, where the draft's own has none. Without any, prompts are token ids.
        - `vocabulary`: how many token ids there are and what they are called. A device that has neither this
          nor a draft model asks the edge when it is entered, and raises `LinkUnavailable` where none answers
          within `connect_timeout_s`. Others need no edge to start.
        - `identity`, `token`: who the device is, and what proves it. `model`: the only one it wants.
        - `ledger`: the file with this account's books (`quality`), one for each identity in the user's data
          folder, unless given. One device at a time spends from it; a second one is refused what is not
          lossless. Where all edges are in this process the books are forgotten with the device, unless a
          file is given.
        - `seed` is for tests: it decides session ids and the seeds of streams that name none.
        """
        is_far = not all(url.startswith("memory:") for url in urls)
        edges = [
            dialer_for(url, identity=identity, token=token, ssl_context=ssl_context, proxy=proxy)
            for url in urls
        ]
        return cls(
            edges,
            draft=draft,
            runner=runner,
            tokenizer=tokenizer,
            vocabulary=vocabulary,
            identity=identity,
            token=token,
            model=model,
            reconnect=reconnect,
            connect_timeout_s=connect_timeout_s,
            ledger=Ledger(ledger or (ledger_path(identity) if is_far else None)),
            seed=seed,
        )

    async def __aenter__(self) -> Device:
        if self._was_entered:
            raise CascadeError("this device was entered before; make another one for another `async with`")
        self._was_entered = True
        equipment = await equip(self._draft, self._runner, self._tokenizer)
        hello = self._hello
        if equipment.model is not None:
            fingerprint, size = equipment.model.vocab_fingerprint, equipment.model.vocab_size
            hello = dataclasses.replace(hello, vocab_fingerprint=fingerprint, vocab_size=size)
        elif hello.vocab_size:
            equipment = equipment.with_vocabulary(hello.vocab_size, hello.vocab_fingerprint)
        self._session = DeviceSession(
            self._edges, hello, equipment, self._reconnect, self._random, self._knowledge, self._ledger
        )
        try:
            await self._session.start(self._connect_timeout_s)
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_exc_info: object) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.stop()

    def account(self, quality: float) -> Account:
        """The books of all streams of this quality, at this moment. Where another device uses the file: as
        they were when this one was entered."""
        return self._ledger.book(quality).account

    @property
    def is_connected(self) -> bool:
        """An edge has said that it serves this device, and the link to it stands, as far as anybody knows."""
        return self._running.connection.is_welcomed

    @property
    def served_model(self) -> str:
        """The numerics class of the edge that served this device last; empty before one did."""
        return self._running.connection.numerics

    @property
    def problem(self) -> str:
        """Why no edge serves this device; empty while one does, and before one was tried."""
        return self._running.connection.problem

    @property
    def num_complaints(self) -> int:
        """Messages of this device that an edge could not use: 0, unless one of the two has a bug."""
        return self._running.connection.num_complaints

    def stream(
        self, prompt: Prompt, *, private: bool = False, **options: Unpack[StreamOptions]
    ) -> AnswerStream:
        """Begin an answer; iterate over what comes back.

        `prompt` is a text, a conversation (`[{"role": "user", "content": "..."}]`), or token ids. Options,
        all but the first with a default:

        - `max_new_tokens`: where the answer ends at the latest;
        - `temperature` (0), `top_k` (off), `top_p` (off), `min_p` (off), `seed`: how tokens are picked. The
          same seed gives the same text; without one, the device draws one;
        - `stop`: a text, or several, that end the answer and do not belong to it;
        - `stop_ids`: tokens that end the answer and belong to it; the model's ends of sequence, unless given;
        - `policy`: how to draft and when to send; as fast as can be, unless given (`Policy.adaptive`);
        - `quality` (1: lossless): the least share of tokens that are the target's own pick. The device may
          decide tokens by itself, without asking, and the account's ledger holds it to that share;
        - `alpha` (0): below quality 1, how lenient the edge may be with guesses, out of the same ledger;
        - `on_disconnect` ("wait"): "continue" goes on with the draft alone once there was no edge for
          `offline_after_s` (2). Such tokens are provisional; with `revisions` (False) those that the edge
          would not have said are withdrawn when it is back: iterate over `events()` then;
        - `logprobs`: tokens come with the log-probability that the target gave them;
        - `any_noise`: above temperature 0, an edge that draws noise of its own will do;
        - `route`: `"auto"` takes the way that is expected to cost least at the policy's prices: the draft
          alone, cascade, lossless or cloud; each of these can be named;
        - `private`: the draft alone answers, and nothing of the stream leaves the device.
        """
        return self._running.begin(prompt, StreamSettings(**options), private=private)

    async def generate(
        self, prompt: Prompt, *, private: bool = False, **options: Unpack[StreamOptions]
    ) -> Answer:
        """Wait for a whole answer; the options are those of `stream`."""
        stream = self.stream(prompt, private=private, **options)
        async for _event in stream.events():
            pass
        return stream.answer

    def chat(self, *, system: str | None = None, private: bool = False) -> Chat:
        """A conversation that keeps its token ids, and the draft's cache, from turn to turn."""
        session = self._running
        if session.equipment.tokenizer is None:
            raise SettingsError("chat", "this device has no tokenizer; give one, tokenizer=FOLDER")
        memory = DraftMemory()
        session.memories.add(memory)

        def begin(ids: list[int], options: StreamOptions) -> AnswerStream:
            settings = StreamSettings(**options)
            return self._running.begin(ids, settings, private=private, memory=memory)

        return Chat(begin, session.equipment.tokenizer, memory, system=system)

    @property
    def _running(self) -> DeviceSession:
        if self._session is None:
            raise CascadeError("the device is not running; use it inside `async with`")
        return self._session
