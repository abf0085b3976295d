"""The token file: who comes in, and what a broken file says."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from cascade.apps.serving import Serving
from cascade.apps.serving.tokens import TokenFile, hash_token
from cascade.errors import LinkClosed, RefusedError, SettingsError
from cascade.links.websocket import WebSocketDialer

from .servers import ask, device_at, get, serving, write_tokens


def test_tokens_stand_for_identities(tmp_path: Path) -> None:
    tokens = TokenFile(write_tokens(tmp_path))
    assert tokens.identify("phone-secret") == "phone"
    assert tokens.identify("tablet-secret-2") == "tablet"
    assert tokens.identify("guess") is None
    assert tokens.identify("") is None
    assert tokens.is_token_of("phone", "phone-secret")
    assert not tokens.is_token_of("tablet", "phone-secret")
    assert tokens.is_operator("operator")
    assert not tokens.is_operator("phone")
    quota = tokens.quota_of("tablet")
    assert quota is not None
    assert quota.max_sessions == 2
    assert tokens.quota_of("phone") is None


def test_a_hash_does_as_well_and_is_not_a_token_itself(tmp_path: Path) -> None:
    hashed = hash_token("long and random")
    tokens = TokenFile(write_tokens(tmp_path, f'[phone]\ntokens = ["{hashed}"]'))
    assert tokens.identify("long and random") == "phone"
    assert tokens.identify(hashed) is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[phone\n", "is not TOML"),
        ('phone = "secret"', "must be a table"),
        ("[phone]\n", "needs tokens"),
        ("[phone]\ntokens = [7]", "needs tokens"),
        ('[phone]\ntokens = [""]', "needs tokens"),
        ('[phone]\ntokens = ["sha256:secret"]', "64 hexadecimal"),
        ('[phone]\ntoken = ["secret"]', "unknown keys"),
        ('[a]\ntokens = ["secret"]\n[b]\ntokens = ["secret"]', "another identity"),
        ('[phone]\ntokens = ["secret"]\nquota = 3', "needs quota"),
        ('[phone]\ntokens = ["secret"]\nquota = { max_pets = 3 }', "max_pets: unknown setting"),
        (f'[{"x" * 200}]\ntokens = ["secret"]', "longer than"),
    ],
)
def test_a_broken_file_is_explained_without_a_token(tmp_path: Path, text: str, says: str) -> None:
    path = write_tokens(tmp_path, text)
    with pytest.raises(SettingsError, match=says) as caught:
        TokenFile(path)
    assert "secret" not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read: No such file"):
        TokenFile(tmp_path / "none.toml")


def test_a_file_that_breaks_later_changes_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_tokens(tmp_path)
    tokens = TokenFile(path)
    path.write_text('[phone]\ntokens = ["new-secret"')
    assert not tokens.reload()
    assert tokens.identify("phone-secret") == "phone"
    assert "the tokens stay as they were" in caplog.text
    assert "new-secret" not in caplog.text


async def test_a_rotated_token_works_at_once_and_a_revoked_one_hangs_up(tmp_path: Path) -> None:
    path = write_tokens(tmp_path)
    async with serving(tokens=path) as server:
        assert len(await _ask(server, "tablet-secret")) == 20
        phone, tablet = [
            await WebSocketDialer(server.link_url, token=token)()
            for token in ("phone-secret", "tablet-secret-2")
        ]
        path.write_text('[phone]\ntokens = ["phone-secret", "phone-new"]\n[tablet]\ntokens = ["tablet-new"]')
        async with asyncio.timeout(10):  # nobody told the server: it looks by itself
            with pytest.raises(LinkClosed):
                await tablet.receive()
        await phone.send(b"still here")
        await phone.close()
        for token in ("phone-secret", "phone-new", "tablet-new"):
            assert len(await _ask(server, token)) == 20
        for token in ("tablet-secret", "tablet-secret-2"):
            with pytest.raises(RefusedError, match="does not know this token"):
                await _ask(server, token)


async def test_a_token_that_moves_to_another_identity_ends_its_links(tmp_path: Path) -> None:
    path = write_tokens(tmp_path)
    async with serving(tokens=path) as server:
        link = await WebSocketDialer(server.link_url, token="phone-secret")()
        path.write_text('[other]\ntokens = ["phone-secret"]')
        await server.reload()
        with pytest.raises(LinkClosed):
            await link.receive()


async def test_pages_ask_for_tokens_too(tmp_path: Path) -> None:
    async with serving(tokens=write_tokens(tmp_path)) as server:
        assert (await get(server, "/health"))[0] == 200  # for load balancers, and says nothing of anybody
        assert (await get(server, "/metrics"))[0] == 401
        assert (await get(server, "/metrics", token="guess"))[0] == 401
        assert (await get(server, "/metrics", token="phone-secret"))[0] == 403
        assert (await get(server, "/metrics", token="operator-secret"))[0] == 200


async def _ask(server: Serving, token: str) -> list[int]:
    async with device_at(server, token=token) as device:
        return await ask(device)
