"""What the tutorial claims of its steps: each does what it is about, and all that the steps before it did."""

from __future__ import annotations

import contextlib
import functools
import signal
from collections.abc import AsyncIterator
from typing import Any, Final

from playwright.async_api import Browser, Dialog, Page, expect

from tests.docs.claims import claim
from tests.docs.stage import Scene
from tests.docs.topics import ask
from tests.support.browser import chromium
from tests.support.engine import Events
from tests.support.program import running

LAST: Final = 5


@claim("tutorial-1", "tutorial-2", "tutorial-3", "tutorial-4", "tutorial-5")
async def a_step_does_what_it_and_those_before_it_are_about(scene: Scene) -> None:
    step = int(scene.name.removeprefix("tutorial-"))
    for does in STEPS[:step]:
        await does(scene)
    if step in (1, LAST):
        await a_window_comes_back_after_a_restart(scene, keeps_bids=step == LAST)


@contextlib.asynccontextmanager
async def windows(browser: Browser, scene: Scene, *names: str) -> AsyncIterator[list[Page]]:
    """Open a window for each name."""
    pages = []
    for name in names:
        page = await browser.new_page()
        page.on("dialog", functools.partial(_answer, name))
        await page.goto(f"http://127.0.0.1:{scene.port}/")
        pages.append(page)
    yield pages
    for page in pages:
        await page.close()


async def _answer(name: str, dialog: Dialog) -> None:
    await dialog.accept(name)


async def place(window: Page, bid: str, answer: str) -> None:
    """Bid in a window, and wait for what it shows."""
    await window.locator("#cents").fill(bid)
    await window.get_by_role("button").click()
    await expect(window.locator("#answer")).to_have_text(answer)


async def bid(scene: Scene, value: object, *, account: str) -> Any:
    """Send one bid and return its answer."""
    async with scene.client() as client:
        return await answered(await client.connect(f"account={account}"), value)


async def answered(events: Events, value: object) -> Any:
    """Bid and return the answer, whatever comes before it."""
    message = await ask(events, "bid", value)
    while "ack" not in message:
        message = await events.receive()
    return message


async def heard(events: Events, event: str) -> Any:
    """Return the arguments of the next event of this name."""
    while (message := await events.receive()).get("event") != event:
        pass
    return message["args"]


async def bids_show_in_two_windows_and_types_are_checked(scene: Scene) -> None:
    async with chromium() as browser, windows(browser, scene, "ann", "ben") as (ann, ben):
        await place(ann, "100", "accepted")
        for window in (ann, ben):
            await expect(window.locator("#bids li")).to_have_text(["ann: 100"])
        await place(ben, "a lot", "validation: Expected `int`, got `str`")


async def bids_out_of_range_are_refused_and_told_to_the_terminal(scene: Scene) -> None:
    answer = await bid(scene, -3, account="ann")
    assert answer["error"] == {"type": "validation", "message": "Expected `int` >= 100", "path": "$[0]"}
    await scene.program.wait_for(r"ann sent .*-3.*: Expected `int` >= 100")


async def low_bids_are_refused_and_newcomers_see_old_ones(scene: Scene) -> None:
    assert (await bid(scene, 200, account="ann"))["args"] == ["accepted"]
    answer = await bid(scene, 200, account="ben")
    assert answer["error"] == {"type": "refused", "message": "the highest bid is 200", "path": ""}
    async with scene.client() as client:
        late = await client.connect("account=late")
        assert [await heard(late, "bid") for _ in range(2)] == [["ann", 100], ["ann", 200]]


async def people_are_shown_and_who_is_outbid_hears_of_it(scene: Scene) -> None:
    async with scene.client() as client:
        ann = await client.connect("account=ann")
        assert await heard(ann, "people") == [["ann"]]
        ben = await client.connect("account=ben")
        assert await heard(ann, "people") == [["ann", "ben"]]
        assert (await answered(ann, 300))["args"] == ["accepted"]
        assert (await answered(ann, 400))["args"] == ["accepted"]
        assert (await answered(ben, 500))["args"] == ["accepted"]
        assert await heard(ann, "notice") == ["ben has outbid you"]
        await ben.close()
        assert await heard(ann, "people") == [["ann"]]


async def mallory_is_not_let_in_and_names_are_the_servers(scene: Scene) -> None:
    for name in ("Mallory", "%20"):
        refusal = await scene.get(f"/stream/?account={name}&EIO=4&transport=polling")
        assert (refusal.status, refusal.json()) == (403, {"code": 4, "message": "not in this house"})
    async with scene.client() as client:
        ann = await client.connect("account=ANN")
        assert await heard(ann, "people") == [["ann"]]
    async with chromium() as browser, windows(browser, scene, "Mallory") as (mallory,):
        await expect(mallory.locator("#answer")).to_have_text("The connection was lost. Trying again...")


STEPS: Final = (
    bids_show_in_two_windows_and_types_are_checked,
    bids_out_of_range_are_refused_and_told_to_the_terminal,
    low_bids_are_refused_and_newcomers_see_old_ones,
    people_are_shown_and_who_is_outbid_hears_of_it,
    mallory_is_not_let_in_and_names_are_the_servers,
)


async def a_window_comes_back_after_a_restart(scene: Scene, *, keeps_bids: bool) -> None:
    """Restart the step on its port below an open window."""
    again = scene.folder / "again.py"
    again.write_text((scene.folder / "server.py").read_text().replace("port=0", f"port={scene.port}"))
    async with chromium() as browser, windows(browser, scene, "ann") as (ann,):
        await place(ann, "600", "accepted")
        await scene.program.stop(signal.SIGINT)
        await expect(ann.locator("#answer")).to_have_text("The connection was lost. Trying again...")
        async with running(again, cwd=scene.folder) as program:
            await program.wait_for("listening on")
            await expect(ann.locator("#answer")).to_have_text("", timeout=20_000)
            await place(ann, "700", "accepted")
            await expect(ann.locator("#bids li")).to_have_text(["ann: 700"])
            async with windows(browser, scene, "ben") as (ben,):
                await expect(ben.locator("#bids li")).to_have_text(["ann: 700"] if keeps_bids else [])
