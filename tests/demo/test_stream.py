"""The demo's client in a page: when it comes back, and when it does not."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Final

from playwright.async_api import Browser, Page

from primacron import HttpRequest, Primacron, Refused
from primacron.protocol.close_reasons import SHUTDOWN
from tests.conftest import Serve
from tests.support.hearing import Hearing

STREAM: Final = Path(__file__).parent.parent.parent / "examples" / "auction" / "page" / "stream.js"
PAGE: Final = """
<!doctype html>
<title>stream</title>
<script type="module">
  import { Stream } from "/stream.js";
  window.told = [];
  const stream = new Stream({ account: "ann" });
  stream.onstate = (state, why) => told.push(why ? `${state}: ${why}` : state);
</script>
"""


def answer(content: str, request: HttpRequest) -> str:
    """Answer a path with a text."""
    return content


async def open_page(browser: Browser, serve: Serve, server: Primacron) -> Page:
    """Serve a page with the client, and open it."""
    server.get("/")(functools.partial(answer, PAGE))
    server.get("/stream.js")(functools.partial(answer, STREAM.read_text()))
    client = await serve(server)
    page = await browser.new_page()
    await page.goto(f"http://127.0.0.1:{client.port}/")
    return page


async def told(page: Page, last: str) -> list[str]:
    """Wait until this was told; return all that was."""
    await page.wait_for_function("last => told.at(-1) === last", arg=last)
    states: list[str] = await page.evaluate("told")
    return states


async def test_a_session_that_the_server_ended_does_not_come_back(browser: Browser, serve: Serve) -> None:
    server = Primacron()
    opened = Hearing(server, "connection")
    page = await open_page(browser, serve, server)
    (session,) = await opened.next()
    await told(page, "live")
    session.disconnect()
    assert await told(page, "ended: the server ended the session") == [
        "connecting",
        "live",
        "ended: the server ended the session",
    ]
    assert opened.is_empty


async def test_a_window_that_is_refused_learns_why_and_does_not_try_again(browser: Browser, serve: Serve) -> None:
    server = Primacron()
    asked = []

    @server.authorize
    def nobody(request: HttpRequest) -> str:
        asked.append(request.query["transport"])
        raise Refused(401, "log in first")

    page = await open_page(browser, serve, server)
    assert await told(page, "ended: log in first") == ["connecting", "ended: log in first"]
    assert asked == ["websocket", "polling"]


async def test_a_connection_that_does_not_last_is_tried_again_more_and_more_seldom(
    browser: Browser, serve: Serve
) -> None:
    server = Primacron()
    opened = Hearing(server, "connection")
    page = await open_page(browser, serve, server)
    times = []
    for _ in range(5):
        (session,) = await opened.next()
        times.append(await page.evaluate("performance.now()"))
        assert session.connection is not None
        session.connection.end(SHUTDOWN)
    assert times[-1] - times[0] >= 150 + 300 + 600 + 1200  # milliseconds: each wait is at least half of twice the last
