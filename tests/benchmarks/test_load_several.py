"""The load generator with several servers: clients are spread over them, and may go from one to another."""

from __future__ import annotations

import asyncio
import os

import pytest

from primacron import HttpRequest, Primacron
from primacron.ids import NodeId
from primacron.testing import Cluster
from tests.benchmarks.conftest import Load
from tests.benchmarks.test_load import EVENTS, NEWS, SECONDS, echoing
from tests.conftest import Serve


def hear(server: Primacron, event: str) -> list[str]:
    """Return a list that gets the account of each session for which a server's event is emitted."""
    heard: list[str] = []
    server.on(event, lambda session: heard.append(session.account))
    return heard


def polled(server: Primacron) -> list[str]:
    """Return a list that gets the account of each handshake of a server."""
    heard: list[str] = []

    @server.authorize
    def authorize(request: HttpRequest) -> bool:
        heard.append(request.query["account"])
        return True

    return heard


async def test_all_clients_but_the_first_are_spread_over_the_other_servers(serve: Serve, load: Load) -> None:
    async with Cluster(lambda shared: echoing(redis=shared)) as cluster:
        first, *others = [(await serve(server)).port for server in cluster.servers]
        connected = [hear(server, "connection") for server in cluster.servers]
        report = await load(
            first, others=f"{others[0]},{others[1]}", **EVENTS, **NEWS, mode="fanout", clients=5, seconds=SECONDS
        )
    assert [sorted(accounts) for accounts in connected] == [["a0"], ["a1", "a3"], ["a2", "a4"]]
    assert report.run.messages == 5 * report.rounds > 0


@pytest.mark.parametrize("transport", ["polling", "upgrade"])
async def test_a_client_goes_to_another_server_after_its_handshake(transport: str, serve: Serve, load: Load) -> None:
    async with Cluster(lambda shared: echoing(redis=shared), nodes=2) as cluster:
        first, second = [(await serve(server)).port for server in cluster.servers]
        owner = cluster.servers[0].node.id
        asked = [polled(server) for server in cluster.servers]
        arrived = hear(cluster.servers[1], "arrived")
        carried: list[NodeId | None] = []

        def note(destination: NodeId | None, body: bytes) -> bool:
            carried.extend([destination] * body.count(b"carry"))
            return True

        cluster.shared.passes = note
        report = await load(first, then=second, **EVENTS, transport=transport, clients=3, seconds=SECONDS)
    assert sorted(asked[0]) == ["a0", "a1", "a2"]
    assert asked[1] == []
    assert sorted(arrived) == (["a0", "a1", "a2"] if transport == "upgrade" else [])
    assert report.run.messages > 0
    # Each answer by polling is a POST and the end of a poll; after the upgrade nothing is carried.
    assert len(carried) >= 2 * report.run.messages if transport == "polling" else not carried
    assert set(carried) <= {owner}


async def test_each_server_has_its_own_part_of_what_is_used(serve: Serve, load: Load) -> None:
    client = await serve(echoing())
    sleeping = await asyncio.create_subprocess_exec("sleep", "60")
    try:
        report = await load(client.port, **EVENTS, server=f"{sleeping.pid},{os.getpid()}", clients=5, seconds=SECONDS)
    finally:
        sleeping.kill()
        await sleeping.wait()
    idle, busy = report.run.each_server_cpu_s
    assert idle == 0 < busy
    assert report.run.server_cpu_us == pytest.approx(busy * 1e6 / report.run.messages, rel=0.01)
