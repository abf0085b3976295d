"""Log-probabilities of a real model, from its logits to the device's tokens."""

from __future__ import annotations

import asyncio

import pytest
import torch

from cascade.device import Device
from cascade.edge import EdgeServer
from cascade.models.huggingface import HuggingFaceModel
from cascade.models.runner import ThreadRunner
from cascade.testing import MemoryListener

from .families import build, stock_logits, text


@pytest.mark.parametrize("temperature", [0.0, 0.8])
async def test_they_are_what_the_stock_model_says(temperature: float) -> None:
    stock, target = await asyncio.to_thread(lambda: (build("llama"), HuggingFaceModel(build("llama"))))
    prompt = text(9, seed=4)
    async with EdgeServer.of(target, ThreadRunner()) as edge:
        edge.listen(MemoryListener("logprobs"))
        async with Device.connect("memory:logprobs") as device:
            stream = device.stream(
                prompt,
                max_new_tokens=20,
                temperature=temperature,
                top_k=8,
                seed=3,
                stop_ids=(),
                logprobs=True,
            )
            tokens = [token async for token in stream]
    answer = [token.id for token in tokens]
    chances = torch.log_softmax(stock_logits(stock, [*prompt, *answer]), dim=-1)[len(prompt) - 1 : -1]
    expected = [float(row[token]) for row, token in zip(chances, answer, strict=True)]
    assert [token.logprob for token in tokens] == pytest.approx(expected, abs=1e-3)
    assert min(expected) < -0.1, "there was something to get wrong"
