"""Servers that break their promises on purpose are found out, each by what it does."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.cluster.traffic import problems
from tests.promises.scene import NAMESPACE, scene

#: What servers are told to do, and what is said of it.
PLANTS = {
    "says accepted": "but never arrived: connection",
    "says unsent": "was certainly unsent",
    "sends twice": "arrived 2 times",
    "changes the order": "arrived behind",
    "counts too few": "sessions at",
}
NAMES = [("ann", f"session-{number}") for number in range(6)]


async def test_what_servers_are_told_to_do_wrong_is_found(tmp_path: Path, anyio_backend: object) -> None:
    async with scene(tmp_path, NAMES, 0, [*PLANTS]) as made:
        made.populate(NAMES)
        for client in made.clients:
            client.settle()
        await made.until_alike({*NAMES}, 20)
        await made.begin()
        async with asyncio.timeout(30):
            while missing := {
                plant for plant, said in PLANTS.items() if not any(said in each for each in made.findings())
            }:
                await asyncio.sleep(1)
        assert not missing

        node, prefix = made.servers[0].node, f"{NAMESPACE}:account:{{ann}}"
        made.redis.command("HSET", prefix, "ghost", f"{node} 1 no-such-sid")
        lost = made.redis.command("HGET", prefix, "session-0")
        made.redis.command("HDEL", prefix, "session-0")
        for record in await made.look():
            made.write(record)
    found = [each for each in made.findings() if "quiet moment" in each]
    assert len(found) == 2, found
    assert f"the registry has ann/ghost at node {node}, which has no no-such-sid" in found[0]
    assert f"has ann/session-0 ({lost.split()[2]}), but the registry does not say so" in found[1]


async def test_servers_that_are_told_nothing_are_found_to_do_nothing_wrong(
    tmp_path: Path, anyio_backend: object
) -> None:
    async with scene(tmp_path, NAMES, 0, []) as made:
        made.populate(NAMES)
        for client in made.clients:
            client.settle()
        await made.until_alike({*NAMES}, 20)
        await made.begin()
        await asyncio.sleep(3)  # the time for which they may do something wrong
        for client in made.clients:
            client.leave()
        await made.until_alike(set(), 20)
        for server in made.servers:
            assert problems(await server.ask("/state")) == []
        await made.say_what_all_see()
    assert made.findings() == []
    for server in made.servers:
        others = {other.node for other in made.servers} - {server.node}
        assert f'    node: "{server.node}"\n    link: "UP"' in made.story()
        assert all(f'    {node}: {{"lease ends": ' in made.story() for node in others)
