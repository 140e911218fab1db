"""What the pages about channels claim of their blocks; see :mod:`tests.docs.claims`."""

from __future__ import annotations

import asyncio
import json

from tests.docs.blocks import NAMED
from tests.docs.claims import claim
from tests.docs.stage import Scene, beside
from tests.docs.topics import ask


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
                assert await ann.socket.receive() == f"4{line}"


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
