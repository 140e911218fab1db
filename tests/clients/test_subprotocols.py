"""Clients that offer websocket subprotocols: the official ones, and a browser, which drops what chose none of them."""

from __future__ import annotations

from playwright.async_api import expect

from tests.conftest import Serve
from tests.docs.bundling import ORIGIN, open_page
from tests.support.browser import chromium
from tests.support.node import run_node
from tests.transports.servers import echo_server

KINDS = ["3 polling websocket", "3 websocket", "4 polling websocket", "4 websocket"]

PAGE = """
for (const offered of [["chat.v2", "chat.v1"], ["other"]]) {
  const socket = new WebSocket("ws://127.0.0.1:%d/stream/?EIO=4&transport=websocket&account=a", offered);
  socket.onopen = () => (document.title += ` open:${socket.protocol}`);
  socket.onerror = () => (document.title += ` refused:${offered}`);
}
"""


async def test_the_first_that_official_clients_offer_is_chosen(kind: str, serve: Serve) -> None:
    client = await serve(echo_server())
    results = await run_node("subprotocols.mjs", client.port, "chat.v1", "chat.v2")
    assert sorted(result["kind"] for result in results) == KINDS
    for result in results:
        told = (result["outcome"], result["transport"], result["chosen"], result["back"])
        assert told == ("open", "websocket", "chat.v1", "hello"), result


async def test_of_several_that_which_the_option_allows_is_chosen(kind: str, serve: Serve) -> None:
    client = await serve(echo_server(subprotocols=["chat.v2", "chat.v3"]))
    results = await run_node("subprotocols.mjs", client.port, "chat.v1", "chat.v3", "chat.v2")
    assert [result["chosen"] for result in results] == ["chat.v3"] * 4


async def test_where_none_is_allowed_an_upgrade_fails_and_polling_lives_on(kind: str, serve: Serve) -> None:
    client = await serve(echo_server(subprotocols=["chat.v2"]))
    results = await run_node("subprotocols.mjs", client.port, "chat.v1")
    for result in sorted(results, key=lambda each: str(each["kind"])):
        upgrading = "polling" in result["kind"]
        assert (result["transport"], result["back"]) == (("polling", "hello") if upgrading else ("websocket", None))
        assert "Unexpected server response: 400" in result["outcome"] or upgrading, result


async def test_a_browser_that_offers_some_gets_one(kind: str, serve: Serve) -> None:
    client = await serve(echo_server(subprotocols=["chat.v1"], origins=[ORIGIN]))
    async with chromium() as browser:
        page, _ = await open_page(browser, PAGE % client.port)
        await expect(page).to_have_title("page open:chat.v1 refused:other", timeout=20_000)
