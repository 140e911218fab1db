"""Pages of other origins, in a browser: what they can do where all are let in, and what they read where not."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

from playwright.async_api import Page

from primacron import Primacron, Session
from tests.conftest import Serve
from tests.docs.bundling import ORIGIN, bundle, open_page
from tests.support.browser import chromium

#: Those of protocol 3 send cookies along with each request, so their browsers demand more of an answer.
CLIENTS: Final = {
    4: 'import { Socket } from "engine.io-client"; const connect = (address, options) => new Socket(address, options);',
    3: 'import connect from "engine.io-client-3";',
}
TALK: Final = """
for (const transports of [["polling"], ["websocket"], ["polling", "websocket"]]) {
  const socket = connect("http://127.0.0.1:%d", { path: "/stream/", query: { account: "ann" }, transports });
  const done = transports.length > 1 ? "upgrade" : "open";
  socket.on(done, () => socket.send(JSON.stringify({ event: "whoami", args: [], id: 1 })));
  socket.on("message", (text) => console.log(`told ${transports}: ${text}`));
  socket.on("error", (error) => console.log(`told ${transports}: ${error.context?.responseText || error}`));
}
"""
READ: Final = """
const address = "http://127.0.0.1:%d/stream/?EIO=4&transport=polling&account=ann";
for (const credentials of ["omit", "include"])
  fetch(address, { credentials })
    .then((answer) => answer.text())
    .then((text) => console.log(`told ${credentials}: ${text}`), () => console.log(`told ${credentials}: hidden`));
"""


async def lines_of(page: Page, printed: list[str], count: int) -> list[str]:
    """Wait until a page has printed so many lines; what the browser itself has to say is left out."""
    async with asyncio.timeout(20):
        while len(told := [line.removeprefix("told ") for line in printed if line.startswith("told ")]) < count:
            await page.wait_for_timeout(20)
    return told


async def test_pages_of_every_origin_connect_where_all_are_let_in(kind: str, serve: Serve, tmp_path: Path) -> None:
    server = Primacron(origins="*")

    @server.event("whoami")
    def whoami(session: Session) -> str:
        return session.account

    client = await serve(server)
    entry = tmp_path / "page.js"
    async with chromium() as browser:
        for connect in CLIENTS.values():
            entry.write_text(connect + TALK % client.port)
            page, printed = await open_page(browser, await bundle(entry))
            answer = '{"ack":1,"args":["ann"]}'
            told = await lines_of(page, printed, 3)
            assert sorted(told) == sorted(f"{by}: {answer}" for by in ("polling", "websocket", "polling,websocket"))


async def test_a_page_that_is_refused_reads_why(kind: str, serve: Serve) -> None:
    client = await serve(Primacron(origins=["https://shop.example"]))
    async with chromium() as browser:
        page, printed = await open_page(browser, READ % client.port)
        told = await lines_of(page, printed, 2)
    why = f"origin '{ORIGIN}' may not connect, option 'origins' allows others"
    assert sorted(told) == ["include: hidden", f'omit: {{"code":3,"message":"{why}"}}']


async def test_the_client_of_a_page_that_is_refused_hears_why(kind: str, serve: Serve, tmp_path: Path) -> None:
    client = await serve(Primacron())
    entry = tmp_path / "page.js"
    entry.write_text(CLIENTS[4] + TALK.replace('["websocket"], ', "") % client.port)
    async with chromium() as browser:
        page, printed = await open_page(browser, await bundle(entry))
        told = await lines_of(page, printed, 2)
    assert len(told) == 2
    for line in told:
        assert f"origin '{ORIGIN}' may not connect, option 'origins' allows that of the host" in line
