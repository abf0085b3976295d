"""The blend of suffix matching and a neural draft: who is asked, that both keep up, and what it gains."""

from __future__ import annotations

import functools
import random
import statistics

import numpy as np
import pytest

from cascade.device import Policy
from cascade.errors import ContextExceeded
from cascade.models.base import Feed
from cascade.models.blend import BlendDraft, BlendSequence
from cascade.models.suffix import SuffixDraft
from cascade.models.text import TextTokenizer
from cascade.testing import SyntheticDraft, SyntheticTarget

from .scripted import RTT_S, Scripted, answer, train_tokenizer

LOG = """\
2024-11-08T06:02:11Z gw-17 WARN pump-03 vibration 7.4 mm/s above limit 7.1, bearing temperature 61 C
2024-11-08T06:02:40Z gw-17 INFO heartbeat, 12 sensors, battery 88 %, uplink lte-2
2024-11-08T06:05:02Z gw-17 WARN pump-03 vibration 7.9 mm/s above limit 7.1, bearing temperature 63 C
2024-11-08T06:07:31Z gw-17 ERROR valve-11 does not close, position 14 %, command 0 %
2024-11-08T06:07:40Z gw-17 INFO heartbeat, 12 sensors, battery 88 %, uplink lte-2
2024-11-08T06:09:55Z gw-17 WARN tank-02 level 91.5 % above limit 90.0, inflow 3.2 m3/h
2024-11-08T06:11:18Z gw-17 ERROR pump-03 stopped by protection, restart blocked for 600 s

List every WARN and ERROR as a JSON array of objects with the keys time, gateway, severity, device, message.
Answer with JSON only.
"""
LOG_AS_JSON = "\n[\n{}\n]\n".format(
    ",\n".join(
        f'  {{"time": "{time}", "gateway": "{gateway}", "severity": "{severity}", "device": "{device}", '
        f'"message": "{message}"}}'
        for time, gateway, severity, device, message in (
            line.split(" ", 4) for line in LOG.splitlines() if line.startswith("2024")
        )
        if severity in ("WARN", "ERROR")
    )
)
MAIL = """\
From: warehouse@nordhafen.example
Subject: Delivery note 2024-11-0387

Dear Ms Okonkwo, today we handed the following to Baltic Freight Forwarding GmbH, truck HH-BF 2210:
12 pallets of corrugated sheet, article CS-4471-B, 640 kg each, and 3 crates of hinge assemblies, article
HA-0093-X2, 85 kg each. The driver, Tomasz Wieczorek, signed at 14:35. Unloading is at Gate 7, Pier Road 118,
20457 Hamburg, not before 06:00 tomorrow. Pallet 9 shows water damage on the lower layer, see photo
IMG_5521.jpg. Questions go to Lindiwe Okafor, +49 40 5550 1182, or dispatch@nordhafen.example.

Extract the facts as JSON with the keys note, carrier, truck, driver, signed_at, items (article, name, count,
weight_kg), unloading (gate, address, not_before), damage, contact (name, phone, mail). Answer with JSON only.
"""
MAIL_AS_JSON = """
{
  "note": "2024-11-0387",
  "carrier": "Baltic Freight Forwarding GmbH",
  "truck": "HH-BF 2210",
  "driver": "Tomasz Wieczorek",
  "signed_at": "14:35",
  "items": [
    {"article": "CS-4471-B", "name": "corrugated sheet", "count": 12, "weight_kg": 640},
    {"article": "HA-0093-X2", "name": "hinge assemblies", "count": 3, "weight_kg": 85}
  ],
  "unloading": {"gate": "7", "address": "Pier Road 118, 20457 Hamburg", "not_before": "06:00"},
  "damage": "Pallet 9 shows water damage on the lower layer, see photo IMG_5521.jpg",
  "contact": {"name": "Lindiwe Okafor", "phone": "+49 40 5550 1182", "mail": "dispatch@nordhafen.example"}
}
"""
CODE = '''\
def read_meter(path, unit="kWh"):
    """Read a meter's log: one line per reading, time and value."""
    readings = []
    with open(path) as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip() or line.startswith("#"):
                continue
            time, _, value = line.partition(" ")
            try:
                readings.append((int(time), float(value)))
            except ValueError:
                raise ValueError(f"{path}, line {number}: not a reading: {line!r}")
    readings.sort()
    total = readings[-1][1] - readings[0][1]
    return {"unit": unit, "readings": readings, "total": total}
'''
EDITED = (
    CODE.replace('unit="kWh"', 'unit="kWh", strict=True')
    .replace(
        "            except ValueError:\n                raise",
        "            except ValueError:\n                if not strict:\n                    continue\n"
        "                raise",
    )
    .replace(
        "    total = readings",
        '    if not readings:\n        raise ValueError(f"{path} is empty")\n    total = readings',
    )
)
PROMPTS = {
    "json": (LOG, LOG_AS_JSON),
    "facts": (MAIL, MAIL_AS_JSON),
    "code": (
        f"{CODE}\nAdd an option `strict`, on by default, without which broken lines are skipped, and refuse "
        "empty logs. Answer with the whole function.\n",
        f"\n{EDITED}",
    ),
}
ELSEWHERE = [
    "The quick survey of the harbour was finished before noon, and nobody had asked for a second one.",
    "def total(values):\n    result = 0\n    for value in values:\n        result += value\n",
    '{"name": "pump", "count": 4, "items": [{"id": 1, "weight": 2.5}, {"id": 2, "weight": 7}]}',
    "If the reading is not a number, skip the line and continue; raise an error when the path is wrong.",
]


@functools.cache
def tokenizer() -> TextTokenizer:
    return train_tokenizer([*ELSEWHERE, MAIL, CODE], 600)


def tokens_per_pass(name: str, *, is_blended: bool) -> float:
    """Of a neural draft that knows half of the answer, alone or in the blend; mean of two such drafts."""
    text = tokenizer()
    prompt, wanted = (text.encode(part) for part in PROMPTS[name])
    script = [*prompt, *wanted, 0]
    policy = Policy.hint_driven(patience_s=RTT_S + 0.01)
    found = []
    for seed in (3, 4):
        neural = Scripted(text, script, agreement=0.5, seed=seed)
        draft = BlendDraft(neural) if is_blended else neural
        came = answer(Scripted(text, script), draft, prompt, num_tokens=len(wanted) + 1, policy=policy)
        assert came.tokens == [*wanted, 0]
        found.append(came.tokens_per_pass)
    return statistics.fmean(found)


@pytest.mark.parametrize(("name", "least"), [("json", 1.3), ("code", 1.3), ("facts", 1.1)])
def test_quoting_gains_tokens_per_pass(name: str, least: float) -> None:
    """Records that repeat their keys, and code, gain most; single facts, quoted once each, the least."""
    gain = tokens_per_pass(name, is_blended=True) / tokens_per_pass(name, is_blended=False)
    assert gain >= least, f"{gain:.2f}"


def ask(model: BlendDraft, sequence: BlendSequence, tokens: list[int]) -> int:
    logits = model.forward([Feed(sequence, tokens, 1)])
    assert logits.shape == (1, model.vocab_size)
    return int(logits[0].argmax())


def test_repeats_go_to_the_suffix_and_the_neural_cache_catches_up_when_asked() -> None:
    text = tokenizer()
    phrase = [40, 41, 42, 43, 44, 45, 46, 47]
    script = [*phrase, 50, *phrase, 51, 52]
    neural = Scripted(text, script)
    model = BlendDraft(neural)
    sequence = model.new_sequence()
    assert ask(model, sequence, script[:13]) == 44  # a match of four
    assert sequence.neural.length == 0
    for at in range(13, 17):
        assert ask(model, sequence, [script[at]]) == (script[at + 1] if at < 16 else 50)
    assert sequence.neural.length == neural.num_rows_fed == 0
    assert ask(model, sequence, [51]) == 52  # not the suffix's 50; and 51 was never seen before
    assert sequence.neural.length == neural.num_rows_fed == 18


def test_verdicts_decide_who_is_asked() -> None:
    """Part of the text repeats: a neural draft that knows it is asked more than one that knows nothing."""
    text, dice = tokenizer(), random.Random(1)
    script = [30, 31]
    for _ in range(100):
        script += [30, 31, dice.randrange(32, 500)]
    num_asked = []
    for agreement in (1.0, 0.0):
        neural = Scripted(text, script, agreement=agreement)
        model = BlendDraft(neural)
        sequence = model.new_sequence()
        was_asked = []
        ask(model, sequence, script[:1])
        for token in script[1:-1]:
            guess = ask(model, sequence, [token])
            was_asked.append(sequence.neural.length == sequence.length)
            if guess != script[sequence.length]:
                # What a correction looks like when the drafter has run one token further.
                model.forward([Feed(sequence, [guess], 1)])
                sequence.truncate(sequence.length - 1)
        num_asked.append(sum(was_asked[-60:]))
    assert num_asked[0] > num_asked[1] + 15, num_asked


@pytest.mark.parametrize("seed", range(20))
def test_a_rolled_back_blend_is_as_its_parts_are_fresh(seed: int) -> None:
    """Promises depend on what happened; the guesses of both parts on the text alone."""
    dice = random.Random(seed)
    target = SyntheticTarget(seed=seed, vocab_size=8)
    neural = SyntheticDraft(target, agreement=0.7)
    suffix = SuffixDraft(vocab_size=8, vocab_fingerprint=target.vocab_fingerprint)
    model = BlendDraft(neural)
    sequence, text = model.new_sequence(), [1, 2, 3]
    model.forward([Feed(sequence, text, 1)])
    num_neural = 0
    for _ in range(120):
        if dice.random() < 0.4:
            del text[dice.randrange(1, len(text)) :]
            sequence.truncate(len(text))
        if dice.random() < 0.1:
            old, sequence = sequence, sequence.fork()
            old.extend([7, 7])
            old.release()
        fed = [dice.randrange(8) for _ in range(dice.choice((1, 1, 1, 4)))]
        text += fed
        row = model.forward([Feed(sequence, fed, 1)])[0]
        assert sequence.length == len(text)
        assert sequence.neural.length <= len(text)
        fresh_neural = neural.forward([Feed(neural.new_sequence(), text, 1)])[0]
        fresh_suffix = suffix.forward([Feed(suffix.new_sequence(), text, 1)])[0]
        is_neural = sequence.neural.length == len(text)
        num_neural += is_neural
        assert np.array_equal(row, fresh_neural if is_neural else fresh_suffix)
    assert 0 < num_neural < 120


def test_it_stands_in_for_its_neural_draft() -> None:
    target = SyntheticTarget(vocab_size=16, context_length=8, eos_ids=frozenset({3}))
    model = BlendDraft(target)
    assert (model.vocab_size, model.vocab_fingerprint) == (16, target.vocab_fingerprint)
    assert (model.context_length, set(model.eos_ids)) == (8, {3})
    one, two = model.new_sequence(), model.new_sequence()
    assert model.forward([Feed(one, [1, 2, 1], 2), Feed(two, [4, 5], 1)]).shape == (3, 16)
    assert model.forward([Feed(two, [6], 0)]).shape == (0, 16)
    assert one.memory_bytes > 0
    with pytest.raises(ContextExceeded):
        model.forward([Feed(one, [1] * 6, 1)])


def test_a_torch_draft_keeps_its_tensors() -> None:
    import torch

    class InTorch(SyntheticTarget):
        def forward(self, feeds):  # type: ignore[no-untyped-def]
            return torch.from_numpy(np.array(super().forward(feeds)))

    model = BlendDraft(InTorch(vocab_size=16))
    row = model.forward([Feed(model.new_sequence(), [1, 2, 3], 1)])
    assert isinstance(row, torch.Tensor)
    mixed = model.forward([Feed(model.new_sequence(), [1, 2, 3, 4, 1, 2, 3], 7)])
    assert isinstance(mixed, np.ndarray)
    assert mixed.shape == (7, 16)
