"""The PUT endpoint of any server reaches any session."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from primacron import Primacron
from tests.cluster.fleet import Fleet, cluster_of, until
from tests.support.engine import Client
from tests.support.hearing import Hearing
from tests.support.http import Response, fetch

BACKENDS = ("memory", "redis")

PATH = "/primacron/broadcast"


class Desk:
    """Two servers: the first one is asked, the second one has the sessions of ``ann`` and ``bob``."""

    def __init__(self, fleet: Fleet, servers: list[Primacron], front: Client) -> None:
        self.fleet = fleet
        self.near, self.far = servers
        self._front = front

    async def put(self, body: Any, key: str | None = None) -> Response:
        """Send a PUT to the first server."""
        headers = {"Authorization": "Bearer secret", "Content-Type": "application/json"}
        if key is not None:
            headers["Idempotency-Key"] = key
        return await self._front.fetch("PUT", PATH, headers, json.dumps(body).encode())

    async def receipt(self, body: Any, key: str | None = None) -> tuple[int, str, bool]:
        """Send a PUT to one session; return status, receipt and whether that is certain."""
        response = await self.put(body, key)
        fields = response.json()
        assert fields["status"] == response.status
        assert response.headers["content-type"] == "application/json"
        return response.status, fields["receipt"], fields["certain"]

    async def reach(self, body: Any, key: str | None = None) -> tuple[int, int, int, bool]:
        """Send a PUT to many; return status, nodes, sessions and whether these are certain."""
        response = await self.put(body, key)
        fields = response.json()
        assert fields["type"] == "sending"
        return response.status, fields["nodes"], fields["sessions"], fields["certain"]


Open = Callable[..., Awaitable[Desk]]


@pytest.fixture
def desk(fleet: Fleet) -> Open:
    async def start(**options: Any) -> Desk:
        servers = await fleet.started(2, secret="secret", **options)
        return Desk(fleet, servers, await fleet.serve(servers[0]))

    return start


async def test_a_session_of_another_server_is_reached_by_its_sid_or_its_names(desk: Open) -> None:
    opened = await desk()
    client = await opened.fleet.join(opened.far, "ann", "a")
    targets: list[dict[str, Any]] = [{"id": client.opened["sid"]}, {"account": "ann", "session": "a"}]
    for target in targets:
        assert await opened.receipt({"message": {"event": "own", "args": [1]}, **target}) == (200, "accepted", True)
        assert await opened.receipt({"message": "text", **target}) == (200, "accepted", True)
        received = [await client.receive() for _ in range(2)]
        assert [(each.event, each.args) for each in received] == [("own", (1,)), ("message", ("text",))]


async def test_the_body_of_the_answer_is_that_of_the_contract(desk: Open) -> None:
    opened = await desk()
    await opened.fleet.join(opened.far, "ann", "a")
    sent = (await opened.put({"message": 1, "account": "ann", "session": "a"})).json()
    assert (sent["status"], sent["type"], sent["receipt"], sent["certain"]) == (200, "sending", "accepted", True)
    assert "sending" in sent["description"].lower()
    lost = (await opened.put({"message": 1, "account": "ann", "session": "b"})).json()
    assert (lost["status"], lost["type"], lost["receipt"]) == (404, "unknown socket", "unknown_session")
    assert "spark was not found" in lost["description"]


async def test_accounts_and_everyone_are_reached_on_all_servers(desk: Open) -> None:
    opened = await desk()
    clients = [
        await opened.fleet.join(server, account, session)
        for server, account, session in (
            (opened.near, "ann", "a1"),
            (opened.far, "ann", "a2"),
            (opened.far, "bob", "b"),
        )
    ]
    assert await opened.reach({"message": "to ann", "account": "ann"}) == (200, 2, 2, True)
    assert await opened.reach({"message": "to all", "everyone": True}) == (200, 2, 3, True)
    assert await opened.reach({"message": "to nobody", "account": "nobody"}) == (200, 1, 0, True)
    heard = [
        [(await client.receive()).args[0] for _ in range(count)]
        for client, count in zip(clients, (2, 2, 1), strict=True)
    ]
    assert heard == [["to ann", "to all"], ["to ann", "to all"], ["to all"]]


async def test_the_members_of_a_channel_are_reached_on_all_servers(desk: Open) -> None:
    opened = await desk()
    clients = [await opened.fleet.join(server, "ann", name) for server, name in ((opened.near, "a"), (opened.far, "b"))]
    await opened.near.account("ann").join("news")
    assert await opened.reach({"message": {"event": "own", "args": [1]}, "channel": "news"}) == (200, 2, 2, True)
    assert await opened.reach({"message": "text", "channel": "nobody"}) == (200, 2, 0, True)
    assert [(await client.receive()).event for client in clients] == ["own"] * 2
    refused = await opened.put({"message": 1, "channel": "a\nb"})
    assert (refused.status, refused.json()["type"]) == (400, "invalid")
    assert "channel 'a\\nb'" in refused.json()["description"]


@pytest.mark.parametrize("sid", ["nobody", "", "x" * 30, "of one that has ended"])
async def test_a_sid_that_nobody_has_is_404(desk: Open, sid: str) -> None:
    opened = await desk()
    client = await opened.fleet.join(opened.far, "ann", "a")
    if sid == "of one that has ended":
        sid = client.opened["sid"]
        await client.close()
        await until(lambda: not opened.far.count(), "the end")
    assert await opened.receipt({"message": 1, "id": sid}) == (404, "unknown_session", True)


async def test_a_connection_that_has_moved_is_reached_by_its_sid(desk: Open) -> None:
    opened = await desk()
    third = opened.fleet.new(secret="secret")
    await opened.fleet.start(third)
    front = await opened.fleet.serve(third)
    polling = await (await opened.fleet.serve(opened.far)).poll_in("account=ann&session=a")
    socket = await front.websocket(f"sid={polling.sid}")
    await socket.send("2probe")
    assert await socket.receive() == "3probe"
    await polling.poll()
    await socket.send("5")
    await until(lambda: third.count() == 1, "the move")
    assert await opened.receipt({"message": "text", "id": polling.sid}) == (200, "accepted", True)
    assert await socket.receive() == '4{"event":"message","args":["text"]}'


async def test_what_the_session_cannot_get_is_413(desk: Open, fleet: Fleet) -> None:
    near, far = fleet.new(secret="secret"), fleet.new(dialect="raw", secret="secret")
    await fleet.start(near, far)
    opened = Desk(fleet, [near, far], await fleet.serve(near))
    await (await fleet.serve(far)).websocket("account=ann&session=a")
    body = {"message": {"event": "e", "args": []}, "account": "ann", "session": "a"}
    assert await opened.receipt(body) == (200, "accepted", True)  # as JSON text
    large = await opened.put({"message": "x" * 1_000_000, "account": "ann", "session": "a"})
    assert (large.status, large.json()["type"]) == (413, "too large")


async def test_numbers_that_cannot_travel_are_400(desk: Open) -> None:
    opened = await desk()
    await opened.fleet.join(opened.far, "ann", "a")
    invalid = Hearing(opened.near, "error::invalid")
    for target in ({"account": "ann", "session": "a"}, {"account": "ann"}, {"everyone": True}):
        response = await opened.put({"message": 2**70, **target})
        assert (response.status, response.json()["type"]) == (400, "invalid")
        await invalid.next()


async def test_a_server_that_nobody_hears_is_503(desk: Open) -> None:
    opened = await desk()
    client = await opened.fleet.join(opened.far, "ann", "a")
    await cluster_of(opened.far).bus.leave()
    assert await opened.receipt({"message": 1, "account": "ann", "session": "a"}) == (503, "unsent", True)
    assert await opened.receipt({"message": 1, "id": client.opened["sid"]}) == (503, "unsent", True)


@pytest.mark.parametrize("backend", ["memory"])
async def test_without_the_link_local_sessions_are_reached_and_others_are_503(desk: Open, fleet: Fleet) -> None:
    opened = await desk()
    local, far = await fleet.join(opened.near, "ann", "here"), await fleet.join(opened.far, "ann", "there")
    fleet.given().away = True
    assert await opened.receipt({"message": 1, "account": "ann", "session": "here"}) == (200, "accepted", True)
    assert await opened.receipt({"message": 1, "id": local.opened["sid"]}) == (200, "accepted", True)
    assert await opened.receipt({"message": 1, "account": "ann", "session": "there"}) == (503, "unsent", True)
    assert await opened.receipt({"message": 1, "id": far.opened["sid"]}) == (503, "unsent", True)
    assert await opened.receipt({"message": 1, "account": "ann", "session": "nobody"}) == (503, "unsent", True)
    assert await opened.reach({"message": 1, "account": "ann"}) == (200, 1, 1, False)
    assert await opened.reach({"message": 1, "everyone": True}) == (200, 1, 1, False)


@pytest.mark.parametrize("backend", ["memory"])
async def test_a_server_that_does_not_answer_in_time_is_504(desk: Open, fleet: Fleet) -> None:
    opened = await desk(receipt_timeout=0.2)
    client = await fleet.join(opened.far, "ann", "a")
    fleet.given().passes = lambda destination, _: destination != opened.near.node.id
    assert await opened.receipt({"message": 1, "account": "ann", "session": "a"}) == (504, "timed_out", False)
    # It is not even known whose connection it is, so nothing was sent.
    assert await opened.receipt({"message": 1, "id": client.opened["sid"]}) == (503, "unsent", True)


async def test_a_session_whose_server_has_died_is_504(desk: Open) -> None:
    opened = await desk(lease=1.0)
    await opened.fleet.join(opened.far, "ann", "a")
    renewing = cluster_of(opened.far)._running
    assert renewing is not None
    renewing.cancel()
    await until(lambda: not cluster_of(opened.near).others(), "the end of the lease")
    assert await opened.receipt({"message": 1, "account": "ann", "session": "a"}) == (504, "node_gone", True)


async def test_a_repeated_idempotency_key_is_answered_with_the_first_receipt(desk: Open) -> None:
    opened = await desk()
    far = await opened.fleet.serve(opened.far)
    client = await opened.fleet.join(opened.far, "ann", "a")
    body = {"message": "pay", "account": "ann", "session": "a"}
    for number in range(3):
        assert await opened.receipt({**body, "message": f"pay {number}"}, key="order 7") == (200, "accepted", True)
    assert await opened.receipt({"message": "pay 4", "id": client.opened["sid"]}, key="order 7") == (
        200, "accepted", True,
    )  # fmt: skip
    headers = {"Authorization": "Bearer secret", "Idempotency-Key": "order 7"}
    again = await fetch(far.port, "PUT", PATH, headers, json.dumps(body).encode())
    assert (again.status, again.json()["receipt"]) == (200, "accepted")
    assert await opened.reach({"message": "pay 5", "account": "ann"}, key="order 7") == (200, 2, 1, True)
    assert await opened.receipt({**body, "message": "other"}, key="order 8") == (200, "accepted", True)
    assert [(await client.receive()).args[0] for _ in range(2)] == ["pay 0", "other"]
    assert client.is_quiet
