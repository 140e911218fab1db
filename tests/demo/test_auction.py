"""The auction, started as a user starts it, in windows of a real browser."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser, Page, expect

from tests.support.program import Program, running

expect.set_options(timeout=20_000)

#: What the page says of a bid that is none; why the server refused it follows.
AMOUNT = "a bid is an amount from €1 to €1,000,000"
RECORD_STAGES = """() => {
  const stage = document.getElementById("stage");
  window.stages = [];
  new MutationObserver(() => stages.push(stage.textContent)).observe(stage, { childList: true });
}"""


@contextlib.asynccontextmanager
async def auction(*, port: int = 0, silence: float = 3600) -> AsyncIterator[tuple[Program, int]]:
    """Run the demo; the hour of silence lets no hammer fall."""
    async with running("-m", "examples.auction", "--port", str(port), "--silence", str(silence)) as program:
        address = await program.wait_for(r"http://127\.0\.0\.1:(\d+)/ ")
        yield program, int(address[1])


async def enter(browser: Browser, port: int, name: str) -> Page:
    """Open a window of its own and enter the room."""
    page = await browser.new_page()
    await page.goto(f"http://127.0.0.1:{port}/")
    await page.get_by_label("Your name").fill(name)
    await page.get_by_role("button", name="Enter the room").click()
    await expect(page.locator("#state")).to_have_text("live")
    return page


async def bid(page: Page, text: str) -> None:
    """Type a bid and place it."""
    await page.get_by_label("Your bid").fill(text)
    await page.get_by_role("button", name="Place bid").click()


async def test_two_windows_see_each_other_their_bids_and_their_pointers(browser: Browser) -> None:
    async with auction() as (_, port):
        ann, ben = await enter(browser, port, "Ann"), await enter(browser, port, "Ben")
        for page in (ann, ben):
            await expect(page.locator("#people li")).to_have_text([re.compile("Ann"), re.compile("Ben")])
        await bid(ann, "120")
        await expect(ben.locator("#amount")).to_have_text("€120")
        await expect(ben.locator("#leader")).to_contain_text("Ann")
        await bid(ben, "1234,50")
        await expect(ann.locator("#amount")).to_have_text("€1,234.50")
        await expect(ann.locator("#bids li")).to_have_text([re.compile("Ben€1,234.50"), re.compile(r"Ann \(you\)€120")])
        late = await enter(browser, port, "Cleo")
        await expect(late.locator("#bids li")).to_have_text([re.compile("Ben€1,234.50"), re.compile("Ann€120")])
        await expect(late.locator("#amount")).to_have_text("€1,234.50")
        await late.close()
        await ann.locator("#picture").hover()
        await expect(ben.locator(".pointer")).to_have_text("Ann")
        await expect(ann.locator(".pointer")).to_have_count(0)
        await ann.close()
        await expect(ben.locator("#people li")).to_have_text([re.compile("Ben")])
        await expect(ben.locator(".pointer")).to_have_count(0)


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("119.99", "refused", "the next bid is at least €120"),
        ("a lot", "validation", f"{AMOUNT}Expected `int`, got `str` at $[0].cents"),
        ("120.0001", "validation", f"{AMOUNT}Expected `int`, got `str` at $[0].cents"),
        ("0", "validation", f"{AMOUNT}Expected `int` >= 100 at $[0].cents"),
    ],
)
async def test_a_refused_bid_shows_why_in_the_words_of_the_server(
    browser: Browser, text: str, kind: str, message: str
) -> None:
    async with auction() as (_, port):
        page = await enter(browser, port, "Ann")
        await bid(page, text)
        await expect(page.get_by_role("alert")).to_have_text(kind + message)
        await expect(page.locator("#bids li")).to_have_count(0)
        await bid(page, "120")
        await expect(page.locator("#amount")).to_have_text("€120")
        await expect(page.get_by_role("alert")).to_be_hidden()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("128.20", "€128.20"),  # 12819.999… cents, where it is multiplied without care
        ("128,2", "€128.20"),
        ("1.200", "€1,200"),
        ("1,200", "€1,200"),
        ("1.200,50", "€1,200.50"),
        ("1,200.5", "€1,200.50"),
        ("€ 999 999", "€999,999"),
    ],
)
async def test_an_amount_is_read_as_people_write_it(browser: Browser, text: str, shown: str) -> None:
    async with auction() as (_, port):
        page = await enter(browser, port, "Ann")
        await bid(page, text)
        await expect(page.locator("#amount")).to_have_text(shown)


async def test_the_door_says_what_this_is_what_to_try_and_where_the_code_is(browser: Browser) -> None:
    async with auction() as (_, port):
        page = await browser.new_page()
        await page.goto(f"http://127.0.0.1:{port}/")
        for words in ("demo of Primacron", "second window", "examples/auction"):
            await expect(page.locator("#door")).to_contain_text(words)


async def test_the_time_that_is_left_is_shown_to_who_comes_late_too(browser: Browser) -> None:
    async with auction(silence=3600) as (_, port):
        ann = await enter(browser, port, "Ann")
        await expect(ann.locator("#clock")).to_have_text("")
        await bid(ann, "120")
        ben = await enter(browser, port, "Ben")
        for page in (ann, ben):
            await expect(page.locator("#clock")).to_have_text(re.compile(r"^going once in 3[56]\d\d s$"))


async def test_windows_come_back_by_themselves_after_a_restart_of_the_server(browser: Browser) -> None:
    async with auction() as (program, port):
        ann, ben = await enter(browser, port, "Ann"), await enter(browser, port, "Ben")
        await bid(ann, "500")
        await expect(ben.locator("#amount")).to_have_text("€500")
        assert await program.stop() == 0
        for page in (ann, ben):
            await expect(page.locator("#state")).to_have_text(re.compile("reconnecting|connecting"))
    async with auction(port=port):
        for page in (ann, ben):
            await expect(page.locator("#state")).to_have_text("live")
            await expect(page.locator("#people li")).to_have_text([re.compile("Ann"), re.compile("Ben")])
            await expect(page.locator("#amount")).to_have_text("€120")
        await bid(ben, "150")
        await expect(ann.locator("#amount")).to_have_text("€150")


async def test_the_hammer_falls_after_three_silences_and_the_next_lot_comes(browser: Browser) -> None:
    async with auction(silence=0.4) as (_, port):
        page = await enter(browser, port, "Ann")
        await expect(page.locator("#title")).to_have_text("Harbour, four in the morning")
        await page.evaluate(RECORD_STAGES)  # each is there for less time than passes between two looks
        await page.get_by_role("button", name="€120").click()
        await expect(page.locator("#title")).to_have_text("Three hills after rain")
        stages = [stage for stage in await page.evaluate("stages") if stage]
        assert stages == ["Going once …", "Going twice …", "Sold to Ann"]


async def test_the_page_asks_for_nothing_from_anywhere_else_and_reports_no_error(browser: Browser) -> None:
    async with auction() as (_, port):
        page = await browser.new_page()
        asked: set[str] = set()
        said: list[str] = []
        page.on("request", lambda request: asked.add(request.url))
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        await page.goto(f"http://127.0.0.1:{port}/")
        await page.get_by_label("Your name").fill("Ann")
        await page.keyboard.press("Enter")
        await expect(page.locator("#state")).to_have_text("live")
        await bid(page, "120")
        await expect(page.locator("#amount")).to_have_text("€120")
        assert {url for url in asked if not url.startswith(f"http://127.0.0.1:{port}/")} == set()
        assert said == []


async def test_a_taken_port_is_told_in_one_sentence() -> None:
    async with auction() as (_, port), running("-m", "examples.auction", "--port", str(port)) as second:
        assert await second.wait() == 1
        assert "Try `make demo PORT=8081`, or --port 0" in second.printed
        assert "Traceback" not in second.printed
