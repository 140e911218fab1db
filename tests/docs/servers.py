"""What the pages about several servers claim of their blocks; see :mod:`tests.docs.claims`."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import AsyncIterator
from typing import Any, Final

from tests.docs.blocks import NAMED
from tests.docs.claims import HANDSHAKE, UPGRADE, claim
from tests.docs.stage import Scene, beside, nginx, run, run_node
from tests.docs.topics import ask
from tests.support.engine import Events
from tests.support.redis import in_thread

SECRET: Final = {"Authorization": "Bearer in earnest: a long random text"}


async def answered(events: Events, event: str, *args: Any) -> Any:
    """Send an event and return its answer, whatever comes before it."""
    message = await ask(events, event, *args)
    while "ack" not in message:
        message = await events.receive()
    return message["args"]


@contextlib.asynccontextmanager
async def three(scene: Scene) -> AsyncIterator[list[Scene]]:
    """Run the block on three servers."""
    async with beside(scene) as second, beside(scene) as third:
        yield [scene, second, third]


@claim("scale-workers")
async def workers_are_one_server_and_are_replaced(scene: Scene) -> None:
    (workers,) = await listed(scene, "answers;")
    assert len(workers) == 3
    async with scene.client() as client:
        crowd = [await client.connect(f"account=a{number}") for number in range(6)]
        assert await answered(crowd[0], "bid", 100) == [6]
        for other in crowd[1:]:
            assert await other.receive() == {"event": "bid", "args": ["a0", 100]}
    os.kill(workers[0], signal.SIGKILL)
    await scene.program.wait_for(rf"worker {workers[0]} ended by itself \(-9\); another one is started")
    scene.program.send_signal(signal.SIGHUP)
    _, renewed = await listed(scene, "new")
    assert not {*workers} & {*renewed}
    async with scene.client() as client:
        crowd = [await client.connect(f"account=a{number}") for number in range(4)]
        assert await answered(crowd[0], "bid", 200) == [4]


async def listed(scene: Scene, what: str) -> list[list[int]]:
    """Return the process ids of the workers, each time that the program has told them, the last time as ``what``."""
    await scene.program.wait_for(rf"{what}.* workers \d.*\n")
    lines = [line for line in scene.program.printed.splitlines() if " workers " in line and "ending" not in line]
    return [[int(each) for each in line.partition(" workers ")[2].split(", ")] for line in lines]


@claim("scale-server")
async def nginx_goes_round_robin_and_no_client_sticks(scene: Scene) -> None:
    async with three(scene) as scenes:
        ports = [each.port for each in scenes]
        async with nginx(scene.folder, *ports, block="scale-nginx.conf") as port, contextlib.AsyncExitStack() as stack:
            for each in scenes:
                client = await stack.enter_async_context(each.client())
                await client.connect("account=ben")
            balanced = await stack.enter_async_context(Scene(scene.program, port, scene.folder).client())
            polling = await balanced.poll_in("account=ann")  # from here on each request goes to the next server
            for cents in range(6):
                assert (await polling.emit("bid", cents)).text == "ok"
                assert (await polling.poll()).text == f'4{{"event":"bid","args":["ann",{cents}]}}'
            assert await answered(await balanced.connect("account=cleo"), "bid", 7) == [5]
            for _ in range(3):
                assert await run_node(UPGRADE, port) == "upgraded to websocket\n"


@claim("scale-away")
async def a_server_lives_on_while_redis_is_away_and_heals(scene: Scene) -> None:
    async with scene.client() as client:
        ann = await client.connect("account=ann")
        assert await answered(ann, "bid", 100) == ["accepted"]
        await in_thread(scene.redis.kill)
        await scene.program.wait_for("the link to the other servers is down: ")
        assert await answered(ann, "bid", 200) == ["accepted"]
        refused = await scene.get(HANDSHAKE)
        message = "the registry of sessions is away (option 'without_redis')"
        assert (refused.status, refused.json()["message"]) == (503, message)
        unready = await client.fetch("GET", "/primacron/readyz", SECRET)
        reason = "the link to the other servers: the backend does not answer"
        assert (unready.status, unready.json()["reasons"]) == (503, [reason])
        await in_thread(scene.redis.start)
        await scene.program.wait_for(r"the link to the other servers is back after \d+\.\d s")
        assert await answered(ann, "bid", 300) == ["accepted"]
        assert (await client.fetch("GET", "/primacron/readyz")).status == 200
        await client.connect("account=ben")


@claim("follow")
async def a_supporter_follows_a_customer_on_another_server(scene: Scene) -> None:
    async with beside(scene) as other, scene.client() as near, other.client() as far:
        sue, ben = await near.connect("account=sue"), await near.connect("account=ben")
        ann = await far.connect("account=ann&device=phone")
        assert (await ask(ben, "follow", "ann", "phone"))["error"]["message"] == "this session may not be followed"
        # In the first seconds of a Redis nobody can say for certain that a session is unknown.
        nobody = await ask(sue, "follow", "ann", "tablet")
        assert nobody["error"]["message"] in ("unknown_session", "unsent")
        assert await answered(sue, "follow", "ann", "phone") == ["following"]
        assert await answered(ann, "bid", 100) == ["accepted"]
        lines = [str(await sue.socket.receive())[1:] for _ in range(2)]
        assert "".join(f"{line}\n" for line in lines) == NAMED["follow-output"].text
        assert await answered(sue, "unfollow", "ann", "phone") == []
        assert await answered(ann, "bid", 200) == ["accepted"]
        assert await answered(sue, "bid", 300) == ["accepted"]  # nothing of Ann came before


@claim("sessions-moving")
async def a_session_moves_with_its_data_to_the_server_of_its_websocket(scene: Scene) -> None:
    async with beside(scene) as other, scene.client() as old, other.client() as new:
        polling = await old.poll_in("account=ann")
        await polling.post('4{"event":"bid","args":[100],"id":1}')
        assert (await polling.poll()).text == '4{"ack":1,"args":[1]}'
        socket = await new.websocket(f"sid={polling.sid}")
        await socket.send("2probe")
        assert await socket.receive() == "3probe"
        assert (await polling.poll()).text == "6"
        await socket.send("5")
        ann = Events(socket, polling.opened)
        assert await ask(ann, "bid", 200) == {"ack": 1, "args": [2]}
        await other.program.wait_for("ann comes from another server")
        await scene.program.wait_for("ann came\nann goes on at another server")
        await ann.close()
        await other.program.wait_for("ann left after 2 bids: transport close")
        assert "came" not in other.program.printed
        assert "left" not in scene.program.printed


@claim("send-server")
async def a_job_that_serves_nobody_sends_to_clients_of_a_server(scene: Scene) -> None:
    async with scene.client() as client:
        windows = [await client.connect("account=ann") for _ in range(2)]
        asked = "asked one of them: accepted\n"
        known = "2 of ann's sessions know, certainly: True\n"
        # A job that begins right after Redis cannot tell it from one that was emptied.
        await in_thread(scene.redis.make_older, "*", 60.0)
        for _ in range(2):
            assert await run(NAMED["send-job"], scene.folder, redis=scene.redis) == known + 2 * asked
        for each in windows:
            told = [await each.receive() for _ in range(3)]
            assert [(message["event"], message["args"]) for message in told] == [
                ("order", [7, "sent"]),
                ("rate", [7]),
                ("rate", [7]),
            ]
        assert await answered(windows[0], "confirm", 7) == ["ann wants 7"]
