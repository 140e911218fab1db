"""What the pages that people search for claim of their blocks; see :mod:`tests.docs.claims`."""

from __future__ import annotations

import asyncio
import re
import shlex
import sys
import time
from pathlib import Path
from typing import Final

import jwt
from playwright.async_api import Browser, expect

from tests.docs.blocks import NAMED
from tests.docs.bundling import ORIGIN, bundle, open_page
from tests.docs.claims import HANDSHAKE, call, claim
from tests.docs.stage import PORT, Scene, beside
from tests.support.browser import chromium
from tests.support.program import running

STRANGE: Final = "http://localhost:5174"
KEY: Final = "from your configuration, 32 bytes or more"
MOUNT: Final = """
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { Auction } from "./Auction.jsx";
createRoot(document.getElementById("root")).render(<StrictMode><Auction account="ACCOUNT" /></StrictMode>);
"""


@claim("cors-server")
async def a_page_on_another_port_is_let_in_and_one_that_is_not_listed_is_not(scene: Scene) -> None:
    entry = scene.folder / "page.js"
    entry.write_text(NAMED["cors-page"].text.replace(PORT, str(scene.port)))
    script = await bundle(entry)
    async with chromium() as browser:
        page, printed = await open_page(browser, script)
        async with asyncio.timeout(20):
            while '{"ack":1,"args":["pong"]}' not in printed:
                await page.wait_for_timeout(20)
        page, printed = await open_page(browser, script, STRANGE)
        async with asyncio.timeout(20):
            while not any(line.startswith("closed") for line in printed):
                await page.wait_for_timeout(20)
        assert "pong" not in "".join(printed)


@claim("jwt")
async def a_token_that_its_issuer_signed_is_an_account_until_it_ends(scene: Scene) -> None:
    def token(**claims: object) -> str:
        return jwt.encode({"sub": "ann", "aud": "shop", "exp": time.time() + 60, **claims}, KEY, "HS256")

    assert (await call(scene, f"account=x&token={token()}", "whoami"))["args"] == ["ann"]
    unsigned = jwt.encode({"sub": "ann", "aud": "shop", "exp": time.time() + 60}, None, "none")
    for wrong in ("", "guess", token(aud="other"), token(exp=time.time() - 1), unsigned):
        refused = await scene.get(f"{HANDSHAKE}&token={wrong}")
        assert refused.status == 401
        assert refused.json()["message"].startswith("the token is not valid: ")
    async with scene.client() as client:
        events = await client.connect(f"account=ann&token={token(exp=time.time() + 2)}")
        assert await events.receive_close() == (1000, "the token has expired")


@claim("logging")
async def what_nobody_hears_is_printed_once_and_counted(scene: Scene) -> None:
    async with scene.client() as client:
        ann = await client.connect("account=ann")
        for _ in range(10):
            await ann.emit("bidd", 100)
            await ann.emit("bid", 100)
            await ann.emit("bid", 200, id=1)  # an accepted one in between: refused ones in a row end the connection
            assert (await ann.receive())["args"] == ["200 %"]
    for line in NAMED["logging-output"].text.splitlines():
        await scene.program.wait_for(re.escape(line).replace("f3NzW5", r"\S+"))
    assert scene.program.printed.count("ZeroDivisionError") == 2  # the line, and the end of its traceback
    await scene.program.stop()
    assert "9 more like it: error::handler: ZeroDivisionError" in scene.program.printed
    assert "9 more like it: error::validation: no validator for the event 'bidd'" in scene.program.printed


@claim("docker-server")
async def the_server_of_the_container_is_alive_as_its_check_says(scene: Scene) -> None:
    assert (await call(scene, "account=ann", "ping"))["args"] == ["pong"]
    file = NAMED["Dockerfile"].text
    found = re.search("^HEALTHCHECK CMD (.+)$", file, re.MULTILINE)
    assert found is not None
    python, *arguments = shlex.split(found[1].replace(PORT, str(scene.port)))
    assert python == "python"
    check = await asyncio.create_subprocess_exec(sys.executable, *arguments)
    assert await check.wait() == 0
    assert f"EXPOSE {PORT}" in file


@claim("reload.py")
async def a_change_of_the_code_restarts_the_server(scene: Scene) -> None:
    assert (await call(scene, "account=ann", "ping"))["args"] == ["pong"]
    folder = scene.folder / "reloaded"
    folder.mkdir()
    file = folder / "reload.py"
    file.write_text(NAMED["reload.py"].text)
    arguments = ("-m", "uvicorn", "reload:app", "--reload", "--port", "0")
    async with running(*arguments, cwd=folder) as program:
        port = int((await program.wait_for(r"running on http://127\.0\.0\.1:(\d+)"))[1])
        await program.wait_for("Application startup complete")
        other = Scene(program, port, folder)
        assert await ping(other) == ["pong"]
        changed = file.read_text().replace('"pong"', '"pong of the new code"')
        saving = asyncio.create_task(save_until_seen(file, changed))
        await program.wait_for("Reloading")
        saving.cancel()
        await program.wait_for("(?s)Reloading.*startup complete")
        # It may have been seen twice.
        while program.printed.count("startup complete") <= program.printed.count("Reloading"):
            await program.wait_for(rf"(?s)(startup complete.*){{{program.printed.count('Reloading') + 1}}}")
        assert await ping(other) == ["pong of the new code"]


async def ping(scene: Scene) -> object:
    """Return what is answered; uvicorn says that it has started a moment before it listens."""
    async with asyncio.timeout(20):
        while True:
            try:
                return (await call(scene, "account=ann", "ping"))["args"]
            except ConnectionRefusedError:
                await asyncio.sleep(0.02)


async def save_until_seen(file: Path, text: str) -> None:
    """Save a file more than once: uvicorn may not have had its first look at it yet."""
    while True:
        await asyncio.to_thread(file.write_text, text)
        await asyncio.sleep(0.5)


@claim("fastapi-scale")
async def two_processes_are_one_application(scene: Scene) -> None:
    async with beside(scene) as other, scene.client() as near, other.client() as far:
        ann, ben = await near.connect("account=ann"), await far.connect("account=ben")
        await ann.emit("say", "hello")
        for each in (ann, ben):
            assert await each.receive() == {"event": "said", "args": ["ann", "hello"]}
        answer = (await near.fetch("POST", "/notify/ben?text=lunch")).json()
        assert answer == {"windows": 1, "process": answer["process"]}
        assert await ben.receive() == {"event": "notice", "args": ["lunch"]}


@claim("react-server")
async def a_component_bids_shows_bids_and_comes_back(scene: Scene) -> None:
    (scene.folder / "usePrimacron.js").write_text(NAMED["usePrimacron.js"].text)
    (scene.folder / "Auction.jsx").write_text(NAMED["Auction.jsx"].text.replace(PORT, str(scene.port)))
    async with chromium() as browser, scene.client() as client:
        page, _ = await open_page(browser, await mounted(scene, "ann"), ORIGIN)
        await expect(page.locator("#state")).to_have_text("live")
        await page.get_by_role("button", name="Bid 100").click()
        await expect(page.locator("#answer")).to_have_text("accepted")
        await expect(page.locator("li")).to_have_text(["ann: 100"])
        await page.get_by_role("button", name="Bid a lot").click()
        await expect(page.locator("#answer")).to_have_text("Expected `int`, got `str`")
        await (await client.connect("account=ben")).emit("bid", 200)
        await expect(page.locator("li")).to_have_text(["ben: 200", "ann: 100"])
        await page.context.set_offline(offline=True)
        await expect(page.locator("#state")).not_to_have_text("live")
        await page.context.set_offline(offline=False)
        await expect(page.locator("#state")).to_have_text("live")
        await a_component_that_is_refused_or_closed_on_purpose_does_not_come_back(scene, browser)


async def mounted(scene: Scene, account: str) -> str:
    """Return the script of a page that shows the component."""
    entry = scene.folder / "main.jsx"
    entry.write_text(MOUNT.replace("ACCOUNT", account))
    return await bundle(entry)


async def a_component_that_is_refused_or_closed_on_purpose_does_not_come_back(scene: Scene, browser: Browser) -> None:
    page, _ = await open_page(browser, await mounted(scene, ""), ORIGIN)
    await expect(page.locator("#state")).to_have_text("ended")
    closing = scene.folder / "closing.py"
    closing.write_text((scene.folder / "server.py").read_text().replace("return", 'session.disconnect("sold"); return'))
    async with running(closing, cwd=scene.folder) as program:
        port = int((await program.wait_for(r"listening on \S+:(\d+)"))[1])
        script = (await mounted(scene, "ann")).replace(f":{scene.port}", f":{port}")
        websocket = script.replace("query: { account }", 'query: { account }, transports: ["websocket"]')
        assert websocket != script
        page, _ = await open_page(browser, websocket, ORIGIN)
        await expect(page.locator("#state")).to_have_text("live")
        await page.get_by_role("button", name="Bid 100").click()
        await expect(page.locator("#state")).to_have_text("ended")
