"""What the pages about channels claim of their blocks; see :mod:`tests.docs.claims`."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import re
from collections.abc import AsyncIterator
from typing import Any, Final

from playwright.async_api import Browser, Dialog, Page, expect

from primacron.testing import Proxy
from tests.docs.blocks import NAMED
from tests.docs.claims import claim
from tests.docs.stage import Scene, beside, run_node
from tests.docs.topics import ask
from tests.support.browser import chromium
from tests.support.engine import Client, Events
from tests.support.program import running
from tests.support.redis import RedisProcess, in_thread
from tests.transports.test_repeats import until

#: Added to the client of the page about history: its first connection is lost, and a bid is placed before it is back.
AWAY: Final = """
Math.random = () => 1; // it comes back after a second
socket.on("open", () => setTimeout(() => socket.close(), 200));
socket.on("close", () => {
  const other = new Socket("http://127.0.0.1:8080", { path: "/stream/", query: { account: "ben" } });
  const bid = (cents) => other.send(JSON.stringify({ event: "bid", args: [7, cents], id: cents }));
  other.on("open", () => bid(300));
  other.on("message", (text) => {
    if (JSON.parse(text).ack === 300) setTimeout(() => bid(400), 1500);
    else setTimeout(() => process.exit(), 300);
  });
});
"""
#: Added to the client of the page about presence: somebody comes, and goes.
COMPANY: Final = """
socket.on("message", (text) => {
  if (JSON.parse(text).ack !== 1) return;
  const query = { account: "ben", color: "blue" };
  const other = new Socket("http://127.0.0.1:8080", { path: "/stream/", query });
  other.on("open", () => other.send(JSON.stringify({ join: "page:7", id: 1 })));
  other.on("message", () => other.close());
  other.on("close", () => setTimeout(() => process.exit(), 300));
});
"""
#: Lets a test cut the connections of a page.
SOCKETS: Final = """
window.sockets = [];
window.WebSocket = class extends WebSocket {
  constructor(...args) {
    super(...args);
    sockets.push(this);
  }
};
"""
#: Keeps the history of the rooms from a page on its first connection, and ends that once all its joins are answered.
CUT: Final = """
let connections = 0;
window.WebSocket = class extends WebSocket {
  constructor(...args) {
    super(...args);
    if (connections++) return;
    this.addEventListener("message", (message) => {
      if (message.data.includes('"said"')) message.stopImmediatePropagation();
      if (message.data.includes('"ack":3')) setTimeout(() => this.close());
    });
  }
};
"""


async def join(events: Events, channel: str, **wanted: Any) -> Any:
    """Ask to come into a channel, and return the next message."""
    await events.send({"join": channel, "id": 1, **wanted})
    return await events.receive()


@claim("rooms")
async def who_is_in_a_room_gets_what_is_sent_to_it(scene: Scene) -> None:
    async with scene.client() as client:
        ann, ben, sue = [await client.connect(f"account={name}") for name in ("ann", "ben", "sue")]
        await scene.program.wait_for("sue is in staff")
        for each in (ann, ben):
            assert await ask(each, "watch", 7) == {"ack": 1, "args": []}
        assert await ask(ann, "bid", 7, 100) == {"ack": 1, "args": ["accepted"]}
        assert await ben.receive() == {"event": "bid", "args": [7, "ann", 100]}
        assert await ask(ben, "unwatch", 7) == {"ack": 1, "args": []}
        assert await ask(ann, "bid", 7, 200) == {"ack": 1, "args": ["accepted"]}
        assert await ask(ben, "help", "which lot?") == {"ack": 1, "args": ["1 of us have been told"]}
        assert await sue.receive() == {"event": "help", "args": ["ben", "which lot?"]}
        await ann.close()
        await scene.program.wait_for("(?s)ann is in lot:7.*ben is in lot:7.*ben has left lot:7.*ann has left lot:7")


@claim("presence-online")
async def an_account_is_online_while_it_has_a_session_on_any_server(scene: Scene) -> None:
    async with beside(scene) as other, scene.client() as near, other.client() as far:
        ann = await near.connect("account=ann")
        ben = await far.connect("account=ben")
        assert await ask(ann, "online", "ben") == {"ack": 1, "args": ["online"]}
        assert await ask(ben, "how many") == {"ack": 1, "args": [2]}
        await ben.close()
        while (await ask(ann, "online", "ben"))["args"] == ["online"]:
            pass
        while (await ask(ann, "online", "ben"))["args"] != ["offline"]:
            await asyncio.sleep(0.1)  # in the first seconds of a Redis nobody can say so


@claim("readme-channels")
async def the_talk_of_the_readme_is_what_is_said(scene: Scene) -> None:
    async with scene.client() as client:
        ben = await client.connect("account=ben")
        ann = await client.connect("account=ann")
        assert await ben.receive() == {"event": "came", "args": ["ann"]}
        for line in NAMED["readme-channels-talk"].text.splitlines():
            if "id" in json.loads(line):
                await ann.socket.send(f"4{line}")
            else:
                answer = str(await ann.socket.receive())
                assert re.sub('"epoch":"[^"]+"', '"epoch":"5f3a"', answer) == f"4{line}"


@claim("channels-kinds")
async def clients_join_the_channels_that_they_may(scene: Scene) -> None:
    async with scene.client() as client:
        ann, eve = await client.connect("account=ann"), await client.connect("account=eve")
        for events in (ann, eve):
            await events.send({"join": "news", "id": 1})
            assert await events.receive() == {"ack": 1, "args": [{"channel": "news"}]}
            await events.send({"join": "lot:7", "id": 2})
        assert await ann.receive() == {"ack": 2, "args": [{"channel": "lot:7"}]}
        assert (await eve.receive())["error"] == {"type": "refused", "message": "not your auction", "path": ""}
        await ann.send({"join": "lot:07", "id": 3})
        assert (await ann.receive())["error"]["path"] == "number"
        await eve.emit("bid", 7, 5, id=3)
        assert (await eve.receive())["error"]["message"] == "join the auction first"
        await ann.emit("bid", 7, 5, id=4)
        assert await ann.receive() == {"event": "bid", "args": ["ann", 5], "channel": "lot:7"}
        assert await ann.receive() == {"ack": 4, "args": ["accepted"]}
        await ann.send({"leave": "lot:7", "id": 5})
        assert await ann.receive() == {"ack": 5, "args": []}


@claim("history")
async def a_late_joiner_gets_what_was_said_and_a_returning_one_what_it_has_missed(scene: Scene) -> None:
    async with beside(scene) as other, other.client() as client:
        ben = await client.connect("account=ben")
        for cents in (100, 200):
            assert await ask(ben, "bid", 7, cents) == {"ack": 1, "args": ["accepted"]}
        assert (await join(ben, "lot:10"))["error"]["message"] == "there is no such lot"
        printed = await run_node(NAMED["history-client"].text + AWAY, scene.port)
        assert printed == "".join(f"bid ben {cents}\n" for cents in (100, 200, 300, 400))


@claim("presence")
async def members_are_told_who_is_there_and_who_comes_and_goes(scene: Scene) -> None:
    printed = await run_node(NAMED["presence-client"].text + COMPANY, scene.port)
    assert printed == NAMED["presence-output"].text
    async with beside(scene) as other, scene.client() as near, other.client() as far:
        ann, ben = await near.connect("account=ann"), await far.connect("account=ben&color=blue")
        (seen,) = (await join(ann, "page:7"))["args"]
        assert [(each["account"], each["info"]) for each in seen["members"]] == [("ann", {"color": "gray"})]
        assert (await join(ben, "page:7"))["args"][0]["members"] != seen["members"]
        (change,) = (await ann.receive())["presence"]
        assert (change[0], change[1]["account"], change[1]["info"]) == ("join", "ben", {"color": "blue"})
        for each in (ann, ben):
            assert await ask(each, "readers", 7) == {"ack": 1, "args": [["ann", "ben"]]}


@contextlib.asynccontextmanager
async def windows(browser: Browser, port: int, *names: str, script: str = SOCKETS) -> AsyncIterator[list[Page]]:
    """Open a window of the chat for each name, and run a script in it before the page's own."""
    pages: list[Page] = []
    for name in names:
        page = await browser.new_page()
        await page.add_init_script(script)
        page.on("dialog", functools.partial(_answer, name))
        await page.goto(f"http://127.0.0.1:{port}/")
        pages.append(page)
    yield pages
    for page in pages:
        await page.close()


async def _answer(name: str, dialog: Dialog) -> None:
    await dialog.accept(name)


async def say(window: Page, text: str) -> None:
    """Say something where the window is."""
    await window.locator("#text").fill(text)
    await window.get_by_role("button", name="Send").click()


async def shows(window: Page, *lines: str) -> None:
    """Wait until a window shows these lines, of which the time is left out."""
    await expect(window.locator("#lines li")).to_have_text(
        [re.compile(f"(^|M |:.. ){re.escape(line)}$") for line in lines], timeout=20_000
    )


async def here(window: Page, *names: str) -> None:
    """Wait until a window shows that these are here."""
    await expect(window.locator("#people li")).to_have_text([*names], timeout=20_000)


@claim("chat")
async def people_talk_in_rooms_and_to_each_other_and_miss_nothing(scene: Scene) -> None:
    async with chromium() as browser, windows(browser, scene.port, "ann", "ben") as (ann, ben):
        await here(ann, "ann", "ben")
        await say(ann, "hello <b>all</b>")
        async with windows(browser, scene.port, "cleo") as (cleo,):
            for window in (ann, ben, cleo):
                await shows(window, "ann hello <b>all</b>")
                await here(window, "ann", "ben", "cleo")
            await two_talk_alone(ann, ben, cleo)
            await say(cleo, "bye")
            await ann.locator("#people").get_by_text("cleo").click()
        await here(ben, "ann", "ben")
        await say(ann, "are you there?")
        await expect(ann.locator("#notice")).to_have_text("cleo is not here")
        await ann.locator("#views").get_by_text("lobby").click()
        await nothing_is_missed_while_the_connection_is_lost(ann, ben)
        async with windows(browser, scene.port, "mallory") as (mallory,):
            await expect(mallory.locator("#notice")).to_have_text("not in this house")
            await say(mallory, "let me in")
            await expect(mallory.locator("#notice")).to_have_text("come in first")
        await shows(ben, "ann hello <b>all</b>", "cleo bye", "ben one", "ben two")
    await lines_survive_what_networks_do(scene)
    await history_outlives_a_server_with_redis(scene)


async def two_talk_alone(ann: Page, ben: Page, cleo: Page) -> None:
    """What is said to one is shown to these two, and marked where another conversation is shown."""
    await ben.locator("#people").get_by_text("ann").click()
    await say(ben, "hello, ann")
    await shows(ben, "ben hello, ann")
    await expect(ann.locator(".unread")).to_have_text("@ben")
    await ann.locator(".unread").click()
    await say(ann, "just us")
    for window in (ann, ben):
        await shows(window, "ben hello, ann", "ann just us")
    await expect(cleo.locator("#views li")).to_have_text(["lobby", "help", "music"])
    for window in (ann, ben):
        await window.locator("#views").get_by_text("lobby").click()


async def nothing_is_missed_while_the_connection_is_lost(ann: Page, ben: Page) -> None:
    """Cut a window off; what is said meanwhile is shown once it is back, each line once."""
    await ann.evaluate("Math.random = () => 1; sockets.at(-1).close()")
    await expect(ann.locator("#notice")).to_have_text("The connection was lost. Trying again...")
    for text in ("one", "two"):
        await say(ben, text)
    await shows(ann, "ann hello <b>all</b>", "cleo bye", "ben one", "ben two")
    await here(ann, "ann", "ben")
    await expect(ann.locator("#notice")).to_have_text("")


async def lines_survive_what_networks_do(scene: Scene) -> None:
    """Break the connection of a window in the ways in which networks do."""
    async with chromium() as browser, Proxy(scene.port) as proxy, scene.client() as client:
        ben = await client.connect("account=ben")
        async with windows(browser, proxy.port, "ann") as (ann,):
            await ann.evaluate("Math.random = () => 0.1")
            await in_an_empty_room_nothing_is_missed(ann, ben, proxy)
            await a_line_without_an_answer_is_not_forgotten(ann, ben, proxy)
        async with windows(browser, scene.port, "cleo", script=CUT) as (cleo,):
            await cleo.locator("#views").get_by_text("help").click()
            await shows(cleo, *[f"ben {number}" for number in range(10, 60)])
        await a_dead_link_is_noticed(scene, browser)


async def in_an_empty_room_nothing_is_missed(ann: Page, ben: Events, proxy: Proxy) -> None:
    """Say more in a room in which nothing was ever said than a window asks for that is new there."""
    await ann.locator("#views").get_by_text("help").click()
    assert "error" not in await join(ben, "room:help")
    await until_answered(ann)
    await proxy.drop("clean", new="refuse")
    for number in range(60):
        await ben.emit("say", "help", str(number), id=number)
        await until_ack(ben, number)
    proxy.mend()
    await shows(ann, *[f"ben {number}" for number in range(60)])


async def until_answered(window: Page) -> None:
    """Wait until a window has the answers to its joins: what it asks is answered behind them."""
    await window.wait_for_function("sockets.at(-1).readyState === WebSocket.OPEN")
    await say(window, "")
    await expect(window.locator("#notice")).to_contain_text("Expected `str` of length >= 1", timeout=20_000)


async def until_ack(events: Events, number: int) -> None:
    """Receive messages up to the answer to a request."""
    while (message := await events.receive()).get("ack") != number:
        assert "error" not in message


async def a_line_without_an_answer_is_not_forgotten(ann: Page, ben: Events, proxy: Proxy) -> None:
    """Lose the answer to a line, and then the line itself: its author is told, and has the text back."""
    await ann.locator("#views").get_by_text("lobby").click()
    before = await ann.locator("#lines li").count()
    assert "error" not in await join(ben, "room:lobby")
    unknown, lines = "It is not known whether this arrived: ", ann.locator("#lines li")
    await proxy.drop("one-way", way="to_client")
    await say(ann, "once")
    while (await ben.receive()).get("event") != "said":
        pass
    await proxy.drop("clean")
    await expect(lines).to_have_count(before + 2, timeout=20_000)
    await expect(lines.nth(before)).to_have_text(f"{unknown}once")
    await expect(lines.nth(before + 1)).to_contain_text("ann once")
    await expect(ann.locator("#text")).to_have_value("once")
    await proxy.drop("silent")
    lost = proxy.lost
    await say(ann, "never")
    await until(lambda: proxy.lost > lost)
    await proxy.drop("clean")
    await expect(lines.last).to_have_text(f"{unknown}never", timeout=20_000)
    await expect(ann.locator("#notice")).to_have_text("", timeout=20_000)
    await expect(ann.locator("#text")).to_have_value("never")


async def a_dead_link_is_noticed(scene: Scene, browser: Browser) -> None:
    """Let the connection of a window fall silent: it comes back, and shows what it has missed."""
    file = scene.folder / "brisk.py"
    options = 'namespace="chat", ping_interval=0.5, ping_timeout=0.5'
    file.write_text(NAMED["chat"].text.replace('namespace="chat"', options).replace("8080", "0"))
    async with running(file, cwd=scene.folder) as program:
        port = int((await program.wait_for(r"listening on \S+:(\d+)"))[1])
        async with (
            Proxy(port) as proxy,
            windows(browser, proxy.port, "ann") as (ann,),
        ):
            await look_in(port, "one")
            await shows(ann, "ben one")
            await proxy.drop("silent")
            await look_in(port, "two")
            await shows(ann, "ben one", "ben two")


async def look_in(port: int, text: str) -> None:
    """Come into the lobby as Ben, say something, and leave, before a heartbeat can be missed."""
    client = Client(port)
    try:
        ben = await client.connect("account=ben")
        assert "error" not in await join(ben, "room:lobby")
        await ben.emit("say", "lobby", text, id=2)
        await until_ack(ben, 2)
    finally:
        await client.close()


async def history_outlives_a_server_with_redis(scene: Scene) -> None:
    """Run two servers on one Redis, and restart one of them below its windows."""
    process = RedisProcess()
    try:
        await in_thread(process.start)
        file = scene.folder / "shared.py"
        text = NAMED["chat"].text.replace('os.environ.get("REDIS")', repr(process.url))
        file.write_text(text.replace("8080", "0"))
        async with running(file, cwd=scene.folder) as other, chromium() as browser:
            far = int((await other.wait_for(r"listening on \S+:(\d+)"))[1])
            async with running(file, cwd=scene.folder) as one:
                near = int((await one.wait_for(r"listening on \S+:(\d+)"))[1])
                async with windows(browser, near, "ann") as (ann,), windows(browser, far, "ben") as (ben,):
                    await say(ann, "hello")
                    await shows(ben, "ann hello")
                    await one.stop()
                    await here(ben, "ben")
                    await say(ben, "are you there?")
                    await shows(ben, "ann hello", "ben are you there?")
                    file.write_text(text.replace("8080", str(near)))
                    async with running(file, cwd=scene.folder):
                        await shows(ann, "ann hello", "ben are you there?")
                        await here(ben, "ann", "ben")
    finally:
        process.close()
