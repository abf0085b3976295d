"""The chat page in a real browser: what people do with it, and what it must not do."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from cascade.apps.gateway.shaping import ShapedLink
from cascade.links.profiles import load_profile
from tests.apps.browser import Page, browser

from .gateways import Place, gateway

pytestmark = [pytest.mark.needs_chromium, pytest.mark.timeout(600)]

SCREENSHOTS = os.environ.get("CASCADE_SCREENSHOTS")
"""A folder, for whoever wants to look."""
LAST = "#log li:last-child"
IDLE = "document.getElementById('stop').hidden"


@contextlib.asynccontextmanager
async def chat(folder: Path, *, profile: str = "", **options: Any) -> AsyncIterator[tuple[Place, Page]]:
    """The page, and what must hold of it whatever was done with it."""
    shaped = ShapedLink(load_profile(profile)) if profile else None
    async with gateway(shaped=shaped, **options) as place, browser(folder / "profile") as page:
        await page.go(place.url)
        await page.until("document.getElementById('status').textContent.startsWith('connected to echo')")
        await page.evaluate("document.getElementById('temperature').value = 0")
        yield place, page
        assert page.complaints == []
        strangers = {url for url in page.requests if not url.startswith((place.url, "about:", "data:"))}
        assert strangers == set(), "no request leaves the machine"


async def ask(page: Page, text: str, *, waits: bool = True) -> None:
    await page.evaluate("document.getElementById('question').focus()")
    await page.write(text)
    await page.press("Enter")
    if waits:
        await page.until(f"{IDLE} && document.querySelector('{LAST} .about').textContent !== ''")


async def test_a_conversation_that_outlives_a_reload(tmp_path: Path) -> None:
    async with chat(tmp_path, pass_s=0.01) as (_place, page):
        await ask(page, "Hello, café 🙂 <b>&amp;</b>")
        assert await page.text(f"{LAST} .answer") == "You said: Hello, café 🙂 <b>&amp;</b>"
        assert await page.text("#said") == "You said: Hello, café 🙂 <b>&amp;</b>", "read out, once"
        assert "a pass" in await page.text(f"{LAST} .about")
        assert "window" in await page.evaluate("document.getElementById('chart').getAttribute('aria-label')")
        await page.evaluate("document.getElementById('objective').value = 'cost'")  # the edge waits for hints
        await ask(page, "Second")
        sources = await page.evaluate(
            f"[...document.querySelectorAll('{LAST} .token')].map((t) => t.className)"
        )
        assert {"token hinted", "token driven"} == set(sources)
        assert await page.evaluate("document.querySelectorAll('#log li').length") == 4
        await page.call("Page.reload")
        await page.until("document.querySelectorAll('#log li').length === 4")
        assert await page.text(f"{LAST} .answer") == "You said: Second"
        await ask(page, "Third")
        assert await page.text(f"{LAST} .answer") == "You said: Third"
        await page.click("#clear")
        await page.call("Page.reload")
        await page.until("document.readyState === 'complete'")
        assert await page.evaluate("document.querySelectorAll('#log li').length") == 0


async def test_stop_and_go_on_as_if_nothing_had_been(tmp_path: Path) -> None:
    text = "word " * 40
    async with chat(tmp_path, pass_s=0.02, slip=0.9) as (place, page):
        await ask(page, text, waits=False)
        await page.until(f"document.querySelectorAll('{LAST} .token').length > 12")
        await page.press("Escape")
        await page.until(IDLE)
        assert "stopped after" in await page.text(f"{LAST} .about")
        stopped = await page.text(f"{LAST} .answer")
        assert f"You said: {text}".startswith(stopped)
        assert len(stopped) < len(text)
        await page.call("Page.reload")
        await page.until(f"document.querySelector('{LAST} .about button') !== null")
        await page.click(f"{LAST} .about button")
        await page.until(f"document.querySelectorAll('{LAST} .token').length > 60")
        await page.click("#stop")
        await page.until(IDLE)
        await page.click(f"{LAST} .about button")
        await page.until(f"{IDLE} && document.querySelector('{LAST} .about').textContent.includes('tokens')")
        assert await page.text(f"{LAST} .answer") == f"You said: {text.strip()}"
        assert place.gateway.turns.num_running == 0


async def test_the_link_is_cut_in_mid_answer_and_restored(tmp_path: Path) -> None:
    async with chat(tmp_path, profile="lan", pass_s=0.02, slip=0.9) as (place, page):
        await ask(page, "word " * 40, waits=False)
        await page.until(f"document.querySelectorAll('{LAST} .token').length > 5")
        await page.click("#cut")
        await page.until("document.getElementById('status').textContent === 'the link is cut'")
        assert await page.text("#cut") == "Restore the link"
        await page.evaluate("new Promise((done) => setTimeout(done, 800))")
        num_tokens = await page.evaluate(f"document.querySelectorAll('{LAST} .token').length")
        assert num_tokens < 150
        await page.evaluate("new Promise((done) => setTimeout(done, 800))")
        assert await page.evaluate(f"document.querySelectorAll('{LAST} .token').length") == num_tokens
        await page.click("#cut")
        await page.until(f"{IDLE} && document.querySelector('{LAST} .about').textContent !== ''")
        assert await page.text(f"{LAST} .answer") == f"You said: {('word ' * 40).strip()}"
        await page.evaluate(
            "(() => { const s = document.getElementById('profile'); s.value = 'lte';"
            " s.dispatchEvent(new Event('change')); })()"
        )
        await page.until("document.getElementById('status').textContent.endsWith('over lte')")
        assert place.gateway._shaped is not None
        assert place.gateway._shaped.facts["profile"] == "lte"


async def test_below_quality_1_the_device_keeps_tokens_of_its_own(tmp_path: Path) -> None:
    """The dial is moved as people do it, holds over a reload, and can be moved back."""
    kept = f"document.querySelectorAll('{LAST} .token.kept').length"
    async with chat(tmp_path, profile="lte", pass_s=0.1, slip=0) as (place, page):
        await ask(page, "word " * 20)
        assert await page.evaluate(kept) == 0
        await page.evaluate("document.getElementById('quality').focus()")
        await page.press("Home")
        await page.press("ArrowLeft")  # it goes no further
        shown = await page.text("#quality-value")
        assert shown == "0.9"
        for _ in range(5):  # when it dares to is its own business, and takes time that a busy machine lacks
            await ask(page, "word " * 30)
            assert await page.text(f"{LAST} .answer") == f"You said: {('word ' * 30).strip()}"
            num_kept = await page.evaluate(kept)
            if num_kept:
                break
        assert num_kept > 0
        assert await page.text("#num-kept") == str(num_kept)
        account = place.device.account(float(shown))
        assert account.least_quality >= float(shown)
        assert account.num_delivered > num_kept
        await page.call("Page.reload")
        await page.until(f"document.getElementById('quality-value').textContent === '{shown}'")
        await page.evaluate("document.getElementById('quality').focus()")
        await page.press("End")
        assert await page.text("#quality-value") == "1"
        await page.evaluate("document.getElementById('temperature').value = 0")
        await ask(page, "word " * 20)
        assert await page.evaluate(kept) == 0


async def test_what_goes_wrong_is_said_in_the_conversation(tmp_path: Path) -> None:
    async with (
        gateway(keys=["sesame"]) as place,
        browser(tmp_path / "profile") as page,
    ):
        await page.go(place.url)
        await page.until("!document.getElementById('key-row').hidden")
        await ask(page, "Hello")
        assert "needs one of its API keys" in await page.text(f"{LAST} .wrong")
        assert await page.evaluate("document.activeElement.id") == "question"
        await page.evaluate(
            "(() => { const key = document.getElementById('key'); key.value = 'sesame';"
            " key.dispatchEvent(new Event('change')); })()"
        )
        await page.evaluate("document.getElementById('temperature').value = 0")
        await ask(page, "Hello again")
        assert await page.text(f"{LAST} .answer") == "You said: Hello again"
        # The browser itself notes the refusal; nothing else is complained about.
        assert all("401" in complaint for complaint in page.complaints)


async def test_it_can_be_used_without_a_mouse_and_without_eyes(tmp_path: Path) -> None:
    async with chat(tmp_path, profile="lan") as (_place, page):
        assert await page.evaluate("document.activeElement.id") == "question"
        tree = (await page.call("Accessibility.getFullAXTree"))["nodes"]
        nameless = [
            node["role"]["value"]
            for node in tree
            if node.get("role", {}).get("value")
            in ("button", "textbox", "slider", "combobox", "checkbox", "image")
            and not node["ignored"]
            and not node.get("name", {}).get("value")
        ]
        assert nameless == []
        reached = []
        for _ in range(14):
            reached.append(await page.evaluate("document.activeElement.id"))
            await page.press("Tab")
        assert {
            "question",
            "send",
            "tints",
            "profile",
            "cut",
            "objective",
            "quality",
            "temperature",
            "max-tokens",
        } <= set(reached)


async def test_light_dark_and_phone(tmp_path: Path) -> None:
    async with chat(tmp_path, profile="lan", pass_s=0.01) as (_place, page):
        await page.evaluate("document.getElementById('objective').value = 'cost'")
        await ask(page, "Why is the sky blue?")
        await ask(page, "averyverylongword" * 4)
        for name, width, height, is_dark in (
            ("light", 1200, 800, False),
            ("dark", 1200, 800, True),
            ("phone", 390, 844, False),
        ):
            await page.look(width=width, height=height, is_dark=is_dark)
            await page.until(f"innerWidth === {width}")
            assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), (
                "nothing overflows"
            )
            assert await page.evaluate(
                "(({ scrollWidth, clientWidth }) => scrollWidth <= clientWidth)"
                "(document.getElementById('status'))"
            ), "the state of the link can be read"
            back = await page.evaluate("getComputedStyle(document.body).backgroundColor")
            assert (back == "rgb(20, 24, 28)") == is_dark
            await keep(page, name)
        await page.evaluate("scrollTo(0, document.body.scrollHeight)")
        await keep(page, "phone-panel")


async def keep(page: Page, name: str) -> None:
    """A picture, for whoever asked for some."""
    if SCREENSHOTS:
        await page.evaluate("new Promise((done) => setTimeout(done, 300))")
        (Path(SCREENSHOTS) / f"{name}.png").write_bytes(await page.screenshot())
