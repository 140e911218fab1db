"""The official browser client, in a real browser, on a page that comes from the same server."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any, Final

import pytest
from playwright.async_api import Browser, Page

from primacron import HttpRequest, Primacron, Session
from tests.conftest import Serve

MODULES: Final = Path(__file__).parent.parent / "js" / "node_modules"
BUNDLES: Final = {4: MODULES / "engine.io-client/dist/engine.io.min.js", 3: MODULES / "engine.io-client-3/engine.io.js"}

# Opens a connection, sends numbered events and waits for their echoes: what it saw is the result.
SCRIPT: Final = """
async ([options, count]) => {
  const socket = eio(location.origin.replace("http", "ws"), { path: "/stream/", ...options });
  const transports = [], echoes = [];
  return await new Promise((resolve, reject) => {
    setTimeout(() => reject(new Error(`only ${echoes.length} echoes by ${transports}`)), 20000);
    const send = (number) => socket.send(JSON.stringify({ event: "echo", args: [number, "hé€😀"] }));
    const settled = () => transports.push(socket.transport.name);
    const wantsUpgrade = options.transports.length > 1;
    socket.on("open", () => {
      settled();
      for (let number = 0; number < count / 2; number++) send(number);
      if (!wantsUpgrade) for (let number = count / 2; number < count; number++) send(number);
    });
    socket.on("upgrade", () => {
      settled();
      for (let number = count / 2; number < count; number++) send(number);
    });
    socket.on("message", (text) => {
      const { event, args } = JSON.parse(text);
      if (event === "echo" && args[1] === "hé€😀") echoes.push(args[0]);
      if (echoes.length === count) {
        socket.on("close", (reason) => resolve({ transports, echoes, reason }));
        socket.close();
      }
    });
    socket.on("error", reject);
  });
}
"""


def read_file(file: Path, request: HttpRequest) -> bytes:
    """Answer with a file."""
    return file.read_bytes()


async def open_page(browser: Browser, serve: Serve, version: int) -> Page:
    """Serve an echo and a page with the client, and open the page."""
    server = Primacron()

    @server.event("echo")
    def echo(session: Session, number: int, text: str) -> None:
        session.emit("echo", number, text)

    @server.get("/")
    def page(request: HttpRequest) -> str:
        return "<!doctype html><title>echo</title><script src='/client.js'></script>"

    server.get("/client.js")(functools.partial(read_file, BUNDLES[version]))
    client = await serve(server)
    window = await browser.new_page()
    await window.goto(f"http://127.0.0.1:{client.port}/")
    return window


@pytest.mark.parametrize("version", [4, 3])
@pytest.mark.parametrize(
    ("offered", "expected"),
    [
        (["polling"], ["polling"]),
        (["websocket"], ["websocket"]),
        (["polling", "websocket"], ["polling", "websocket"]),
    ],
)
async def test_the_official_client_works_in_a_page(
    browser: Browser, serve: Serve, version: int, offered: list[str], expected: list[str]
) -> None:
    page = await open_page(browser, serve, version)
    options: dict[str, Any] = {"transports": offered, "query": {"account": "ann"}}
    seen = await page.evaluate(SCRIPT, [options, 200])
    assert seen["transports"] == expected
    assert seen["echoes"] == list(range(200))
