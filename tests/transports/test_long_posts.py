"""POSTs of very many packets: checked as a whole, answered then, and handled at the pace of the session."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from primacron import Primacron, Session
from primacron.sessions.connection import Connection
from tests.conftest import Serve
from tests.support.hearing import Hearing
from tests.transports.servers import UNKNOWN, error_of
from tests.transports.test_polling import begin_poll, reached

COUNT = 5_000
BODY = "\x1e".join(f"4{number}" for number in range(COUNT))
ALL = [str(number) for number in range(COUNT)]


class Gated:
    """A server whose handler waits at a gate, and what came through."""

    def __init__(self, **options: Any) -> None:
        self.server = Primacron(dialect="raw", **options)
        self.gate = asyncio.Event()
        self.handled: list[str] = []
        self.most = 0
        #: How many were handled when the end was heard.
        self.at_end: list[int] = []

        @self.server.event("message")
        async def handle(session: Session, content: str) -> None:
            self.most = max(self.most, len(session.inbox._jobs) if session.inbox is not None else 0)
            await self.gate.wait()
            self.handled.append(content)

        @self.server.on("disconnection")
        def ended(session: Session, reason: str) -> None:
            self.at_end.append(len(self.handled))

    @property
    def session(self) -> Session:
        (session,) = self.server.node.hub.sessions
        return session

    @property
    def connection(self) -> Connection:
        connection = self.session.connection
        assert connection is not None
        return connection

    async def all(self, count: int = COUNT) -> None:
        """Wait until so many were handled."""
        async with asyncio.timeout(20):
            while len(self.handled) < count:
                await asyncio.sleep(0.005)


async def test_the_session_sets_the_pace_and_the_next_post_waits(kind: str, serve: Serve) -> None:
    gated = Gated(inbox_limit=10)
    polling = await (await serve(gated.server)).poll_in()
    assert (await polling.post(BODY)).text == "ok"
    assert gated.connection.backlog is not None
    assert gated.server.node.hub.unfinished.total == len(BODY)
    raw = await polling.client.raw()
    await raw.send_request("POST", polling.target, body=b"4last")
    await reached(polling)
    assert gated.handled == []
    gated.gate.set()
    assert (await raw.read_response()).text == "ok"
    await gated.all(COUNT + 1)
    assert gated.handled == [*ALL, "last"]
    assert gated.most <= 10
    assert gated.connection.backlog is None
    assert not gated.connection.is_held
    assert gated.server.node.hub.unfinished.total == 0


async def test_while_a_long_post_waits_no_answer_to_a_heartbeat_is_demanded(kind: str, serve: Serve) -> None:
    gated = Gated(ping_interval=0.1, ping_timeout=0.1)
    ends = Hearing(gated.server, "disconnection")
    polling = await (await serve(gated.server)).poll_in()
    assert (await polling.post(BODY)).text == "ok"
    for _ in range(4):
        assert set((await polling.poll()).text.split("\x1e")) == {"2"}
    assert ends.is_empty
    gated.gate.set()
    await gated.all()
    assert gated.handled == ALL


async def test_what_comes_by_websocket_keeps_its_place_behind_a_long_post(kind: str, serve: Serve) -> None:
    gated = Gated()
    polling = await (await serve(gated.server)).poll_in()
    assert (await polling.post(BODY)).text == "ok"
    socket = await polling.probe()
    await socket.send("2probe")
    assert await socket.receive() == "3probe"
    await socket.send("5")
    for number in range(100):
        await socket.send(f"4behind {number}")
    gated.gate.set()
    await gated.all(COUNT + 100)
    assert gated.handled == [*ALL, *(f"behind {number}" for number in range(100))]


@pytest.mark.parametrize("how", ["the client gives up its poll", "the client misses its pongs", "the server ends"])
async def test_what_was_answered_ok_is_handled_though_the_client_goes(how: str, kind: str, serve: Serve) -> None:
    gated = Gated()
    ends = Hearing(gated.server, "disconnection")
    polling = await (await serve(gated.server)).poll_in()
    poll = await begin_poll(polling)
    assert (await polling.post(BODY)).text == "ok"
    if how == "the server ends":
        asyncio.get_running_loop().call_later(0.05, gated.gate.set)
        await gated.server.destroy()
    elif how == "the client misses its pongs":
        gated.connection.give_up()
    else:
        poll.abort()
    while gated.server.is_started and gated.server.count():
        await asyncio.sleep(0.005)
    gated.gate.set()
    await gated.all()
    assert gated.handled == ALL
    await ends.next()
    assert gated.at_end == [COUNT]


async def test_what_is_left_is_let_go_when_the_application_ends_the_session(kind: str, serve: Serve) -> None:
    gated = Gated(inbox_limit=10)
    ends = Hearing(gated.server, "disconnection")
    polling = await (await serve(gated.server)).poll_in()
    assert (await polling.post(BODY)).text == "ok"
    session = gated.session
    hub = gated.server.node.hub
    session.disconnect("enough")
    gated.gate.set()
    assert (await ends.next())[1] == "enough"
    assert gated.handled == ALL[: len(gated.handled)]
    assert len(gated.handled) <= 11
    assert hub.unfinished.total == 0


async def test_an_answer_among_the_packets_is_found_while_its_handler_waits(kind: str, serve: Serve) -> None:
    server = Primacron()
    outcome: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    @server.event("ask")
    async def ask(session: Session) -> None:
        outcome.set_result(await session.call("what"))

    @server.event("more")
    async def more(session: Session) -> None:
        pass

    polling = await (await serve(server)).poll_in()
    poll = await begin_poll(polling)
    assert (await polling.post('4{"event":"ask"}')).text == "ok"
    number = (await poll.read_response()).text.partition('"id":')[2].rstrip("}")
    packets = ['4{"event":"more"}'] * 200 + [f'4{{"ack":{number},"args":[5]}}'] + ['4{"event":"more"}'] * 2_000
    assert (await polling.post("\x1e".join(packets))).text == "ok"
    async with asyncio.timeout(10):
        assert await outcome == 5


async def test_of_a_long_post_that_is_bad_at_its_end_nothing_is_delivered(kind: str, serve: Serve) -> None:
    gated = Gated()
    ends = Hearing(gated.server, "disconnection")
    polling = await (await serve(gated.server)).poll_in()
    hub = gated.server.node.hub
    assert error_of(await polling.post(BODY + "\x1e9")) == (400, 3)
    assert (await ends.next())[1] == "parse error"
    assert gated.handled == []
    assert error_of(await polling.poll()) == UNKNOWN
    assert hub.unfinished.total == 0


async def test_a_limit_of_packets_may_be_set(kind: str, serve: Serve) -> None:
    gated = Gated(max_packets=4_000)
    polling = await (await serve(gated.server)).poll_in()
    response = await polling.post(BODY)
    assert error_of(response) == (400, 3)
    assert response.json()["message"] == "more than 4000 packets in one payload (option 'max_packets')"


async def test_long_posts_of_all_clients_count_against_the_total_of_input(kind: str, serve: Serve) -> None:
    gated = Gated(input_total=60_000, inbox_limit=10)
    errors, ends = Hearing(gated.server, "error::limit"), Hearing(gated.server, "disconnection")
    client = await serve(gated.server)
    for _ in range(3):
        assert (await (await client.poll_in()).post(BODY)).text in ("ok", "")
    await errors.next_error()
    assert gated.server.node.hub.unfinished.total <= 60_000
    gated.gate.set()  # the end is heard behind the handler that runs
    assert (await ends.next())[1] == "too much unfinished input"
