"""Who is let in: authorize, session ids, the same session twice, and limits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from primacron import HttpRequest, Primacron, Refused, Session
from primacron.cluster.errors import BackendUnavailable
from primacron.errors import NotListening, SessionGone
from tests.conftest import Serve
from tests.support.engine import Client
from tests.support.hearing import Hearing
from tests.support.http import Response
from tests.transports.servers import echo_server, error_of

HANDSHAKE = "/stream/?EIO=4&transport=polling"


async def both(client: Client, query: str, headers: dict[str, str] | None = None) -> tuple[Response, Response]:
    """Return the answers to a handshake by polling and by websocket."""
    polling = await client.fetch("GET", f"{HANDSHAKE}&{query}", headers)
    socket = await client.websocket(query, headers=headers)
    if socket.response.status != 101:
        await socket.close()
    return polling, socket.response


def refuse(request: HttpRequest) -> None:
    raise Refused(402, "pay first")


async def refuse_later(request: HttpRequest) -> None:
    await asyncio.sleep(0)
    raise Refused(402, "pay first")


@pytest.mark.parametrize("authorize", [refuse, refuse_later])
async def test_authorize_turns_clients_away_on_both_transports(
    authorize: Callable[[HttpRequest], Any], kind: str, serve: Serve
) -> None:
    server = Primacron()
    server.authorize(authorize)
    errors = Hearing(server, "error::refused")
    for response in await both(await serve(server), "account=a"):
        assert (response.status, response.json()) == (402, {"code": 4, "message": "pay first"})
        error, context = await errors.next_error()
        assert str(error) == "pay first"
        assert context.request is not None
        assert context.request.query["account"] == "a"
    assert server.count() == 0


async def test_a_refusal_without_words_is_403_forbidden(kind: str, serve: Serve) -> None:
    server = Primacron()

    @server.authorize
    def authorize(request: HttpRequest) -> None:
        raise Refused

    for response in await both(await serve(server), "account=a"):
        assert (response.status, response.json()) == (403, {"code": 4, "message": "Forbidden"})


def take_cookie(request: HttpRequest) -> str:
    return request.cookies["user"]


async def take_cookie_later(request: HttpRequest) -> str:
    await asyncio.sleep(0)
    return request.cookies["user"]


@pytest.mark.parametrize("authorize", [take_cookie, take_cookie_later])
async def test_authorize_may_replace_the_account(
    authorize: Callable[[HttpRequest], Any], kind: str, serve: Serve
) -> None:
    server = Primacron()
    server.authorize(authorize)
    opened = Hearing(server, "connection")
    answers = await both(await serve(server), "account=a", {"Cookie": "user=ann; other=x"})
    assert [answer.status for answer in answers] == [200, 101]
    for _ in answers:
        assert (await opened.next())[0].account == "ann"


def fail(request: HttpRequest) -> None:
    raise KeyError("secret detail")


async def fail_later(request: HttpRequest) -> None:
    await asyncio.sleep(0)
    raise KeyError("secret detail")


@pytest.mark.parametrize("authorize", [fail, fail_later])
async def test_a_mistake_in_authorize_lets_nobody_in_and_tells_clients_nothing(
    authorize: Callable[[HttpRequest], Any], kind: str, serve: Serve
) -> None:
    server = Primacron()
    server.authorize(authorize)
    errors = Hearing(server, "error::handler")
    for response in await both(await serve(server), "account=a"):
        assert (response.status, response.json()) == (500, {"code": 3, "message": "internal error"})
        error, context = await errors.next_error()
        assert isinstance(error, KeyError)
        assert context.request is not None
    assert server.count() == 0


@pytest.mark.parametrize("later", [False, True])
async def test_authorize_may_take_the_account_of_the_query(later: bool, kind: str, serve: Serve) -> None:
    async def say_yes_later(request: HttpRequest) -> bool:
        await asyncio.sleep(0)
        return True

    server = Primacron()
    server.authorize(say_yes_later if later else lambda request: True)
    opened = Hearing(server, "connection")
    assert [answer.status for answer in await both(await serve(server), "account=ann")] == [200, 101]
    for _ in range(2):
        assert (await opened.next())[0].account == "ann"


async def test_authorize_may_say_no_by_false(kind: str, serve: Serve) -> None:
    server = Primacron()
    server.authorize(lambda request: False)
    errors, mistakes = Hearing(server, "error::refused"), Hearing(server, "error::handler")
    for response in await both(await serve(server), "account=a"):
        assert (response.status, response.json()) == (403, {"code": 4, "message": "Forbidden"})
        assert isinstance((await errors.next_error())[0], Refused)
    assert mistakes.is_empty
    assert server.count() == 0


class Yes:
    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]


@pytest.mark.parametrize("verdict", [None, 7, 1, 0, "", "\n", "x" * 129, b"ann", ["ann"], ("ann",), {}, Yes()])
async def test_what_says_neither_yes_nor_no_lets_nobody_in_and_is_told(verdict: Any, kind: str, serve: Serve) -> None:
    server = Primacron()
    server.authorize(lambda request: verdict)
    errors = Hearing(server, "error::handler")
    for response in await both(await serve(server), "account=a"):
        assert (response.status, response.json()) == (403, {"code": 4, "message": "Forbidden"})
        error, context = await errors.next_error()
        assert str(error).startswith(f"authorize returned {verdict!r}, which refuses: return the account, or True")
        assert context.request is not None
    assert server.count() == 0


async def test_a_hook_without_a_return_lets_nobody_in(kind: str, serve: Serve) -> None:
    class Forgetful(Primacron):
        async def authorize(self, request: HttpRequest) -> None:  # type: ignore[override]
            request.query["account"].upper()

    server = Forgetful()
    errors = Hearing(server, "error::handler")
    for response in await both(await serve(server), "account=a"):
        assert response.status == 403
        assert "authorize returned None" in str((await errors.next_error())[0])
    assert server.count() == 0


@pytest.mark.parametrize("error", [NotListening(), BackendUnavailable("the address of Redis"), SessionGone("s")])
async def test_errors_of_this_library_in_a_hook_tell_clients_no_more_than_others(
    error: Exception, kind: str, serve: Serve
) -> None:
    def fail(request: HttpRequest) -> str:
        raise error

    server = Primacron()
    server.authorize(fail)
    heard = Hearing(server, "error::*")
    for response in await both(await serve(server), "account=a"):
        assert response.json()["message"] == "internal error"
        assert (await heard.next_error())[0] is error


@pytest.mark.parametrize("stubborn", [False, True])
async def test_a_handshake_that_takes_too_long_is_answered_503(stubborn: bool, kind: str, serve: Serve) -> None:
    server = Primacron(handshake_timeout=0.1)
    over = asyncio.Event()

    @server.authorize
    async def authorize(request: HttpRequest) -> None:
        try:
            await over.wait()
        except asyncio.CancelledError:
            if not stubborn:
                raise
            await over.wait()

    errors = Hearing(server, "error::refused")
    for response in await both(await serve(server), "account=a"):
        assert error_of(response) == (503, 3)
        assert response.json()["message"] == "the handshake took longer than 0.1 s (option 'handshake_timeout')"
        assert (await errors.next_error())[1].request is not None
    over.set()
    while server.node._working:
        await asyncio.sleep(0)
    assert (server.count(), await server.account("a").sessions()) == (0, [])


async def test_a_client_that_leaves_during_its_handshake_leaves_nothing(kind: str, serve: Serve) -> None:
    server = Primacron(max_connections=1)
    entered, cancelled = asyncio.Event(), asyncio.Event()

    @server.authorize
    async def authorize(request: HttpRequest) -> bool:
        if request.query["account"] == "b":
            return True
        entered.set()
        try:
            return await asyncio.Event().wait()
        finally:
            cancelled.set()

    client = await serve(server)
    raw = await client.raw()
    await raw.send_request("GET", f"{HANDSHAKE}&account=a")
    async with asyncio.timeout(5):
        await entered.wait()
        raw.abort()
        await cancelled.wait()
    assert (server.count(), await server.account("a").sessions()) == (0, [])
    await client.poll_in("account=b")  # the place that it had asked for is free


async def test_uuid_names_sessions(kind: str, serve: Serve) -> None:
    server = Primacron()

    async def name(request: HttpRequest) -> str:
        await asyncio.sleep(0)
        return f"{request.query['account']}-{request.query['transport']}"

    assert server.uuid(name) is server
    opened = Hearing(server, "connection")
    await both(await serve(server), "account=ann")
    assert {(await opened.next())[0].id for _ in range(2)} == {"ann-polling", "ann-websocket"}


@pytest.mark.parametrize(
    "name", [lambda request: None, lambda request: "", lambda request: "x" * 129, fail, fail_later]
)
async def test_a_mistake_in_uuid_lets_nobody_in(name: Callable[[HttpRequest], Any], kind: str, serve: Serve) -> None:
    server = Primacron()
    server.uuid(name)
    errors = Hearing(server, "error::handler")
    for response in await both(await serve(server), "account=a"):
        assert (response.status, response.json()) == (500, {"code": 3, "message": "internal error"})
        await errors.next_error()
    assert server.count() == 0


def named_server(**options: Any) -> Primacron:
    """Return a server on which clients name their sessions themselves."""
    server = echo_server(**options)
    server.uuid(lambda request: request.query["session"])
    return server


async def test_a_second_connection_replaces_the_first_one_of_its_session(kind: str, serve: Serve) -> None:
    server = named_server()
    ends = Hearing(server, "disconnection")
    client = await serve(server)
    first = await client.poll_in("account=a&session=s")
    second = await client.websocket("account=a&session=s")
    await second.receive()
    session, reason = await ends.next()
    assert (session.id, reason) == ("s", "replaced")
    assert (await first.poll()).text == "1"
    other = await client.websocket("account=b&session=s")
    await other.receive()
    third = await client.poll_in("account=a&session=s")
    close = await second.receive_close()
    assert (close.code, close.reason) == (4500, "replaced")
    assert (await third.post("4here")).text == "ok"
    assert (await third.poll()).text == "4here"
    await other.send("4there")
    assert await other.receive() == "4there"
    assert server.count() == 2


async def test_a_second_connection_is_refused_where_that_is_asked_for(kind: str, serve: Serve) -> None:
    server = named_server(same_session="refuse")
    ends = Hearing(server, "disconnection")
    client = await serve(server)
    first = await client.poll_in("account=a&session=s")
    for response in await both(client, "account=a&session=s"):
        assert error_of(response) == (409, 3)
        assert response.json()["message"] == "session 's' is taken (option 'same_session')"
    assert (await first.post("4here")).text == "ok"
    assert (await first.post("1")).text == "ok"
    assert (await ends.next())[1] == "client close"
    await client.poll_in("account=a&session=s")


async def test_of_handshakes_for_one_session_at_the_same_time_exactly_one_wins(kind: str, serve: Serve) -> None:
    server = named_server()
    waiting = 0
    gate = asyncio.Event()

    @server.authorize
    async def authorize(request: HttpRequest) -> bool:
        nonlocal waiting
        waiting += 1
        if waiting == 10:
            gate.set()
        return await gate.wait()

    client = await serve(server)
    query = f"{HANDSHAKE}&account=a&session=s"
    answers = await asyncio.gather(*(client.fetch("GET", query) for _ in range(10)))
    assert {answer.status for answer in answers} <= {200, 409}
    hub = server.node.hub
    living = [each for each in hub.connections.values() if hub.session_of(each).connection is each]
    assert len(living) == server.count() == len(await server.account("a").sessions()) == 1
    assert hub.sessions.of(living[0].session.account) == [living[0].session]


async def test_connections_of_a_process_are_limited(kind: str, serve: Serve) -> None:
    server = echo_server(max_connections=2)
    errors, ends = Hearing(server, "error::refused"), Hearing(server, "disconnection")
    client = await serve(server)
    first, _ = await client.poll_in(), await client.poll_in()
    for response in await both(client, "account=a"):
        assert error_of(response) == (503, 3)
        assert str((await errors.next_error())[0]) == response.json()["message"]
    await first.post("1")
    await ends.next()
    await client.poll_in()


async def test_handshakes_at_the_same_time_do_not_get_past_a_limit(kind: str, serve: Serve) -> None:
    server = echo_server(max_connections=3)
    gate = asyncio.Event()

    @server.authorize
    async def authorize(request: HttpRequest) -> bool:
        return await gate.wait()

    client = await serve(server)
    asked = [asyncio.create_task(client.fetch("GET", f"{HANDSHAKE}&account=a")) for _ in range(10)]
    while sum(task.done() for task in asked) < 7:
        await asyncio.sleep(0)
    gate.set()
    statuses = [(await task).status for task in asked]
    assert (statuses.count(200), statuses.count(503)) == (3, 7)


@pytest.mark.parametrize("kind", ["standalone", "standalone-asyncio"], indirect=True)
async def test_connections_of_an_address_are_limited(kind: str, serve: Serve) -> None:
    server = echo_server(max_per_address=2, trusted_proxies=["127.0.0.1"])
    ends = Hearing(server, "disconnection")
    client = await serve(server)

    async def connect(address: str) -> int:
        response = await client.fetch("GET", f"{HANDSHAKE}&account=a", {"X-Forwarded-For": address})
        return response.status

    assert [await connect("1.1.1.1") for _ in range(3)] == [200, 200, 429]
    assert [await connect("2.2.2.2") for _ in range(3)] == [200, 200, 429]
    hub = server.node.hub
    connection = next(each for each in hub.connections.values() if each.session.peer == "1.1.1.1")
    hub.session_of(connection).disconnect()
    await ends.next()
    assert await connect("1.1.1.1") == 429  # its last packet is still kept
    assert (await client.fetch("GET", f"{HANDSHAKE}&sid={connection.sid}")).text == "1"
    assert [await connect("1.1.1.1"), await connect("2.2.2.2")] == [200, 429]


ONE_CLIENT = [
    ("2001:db8::1", "2001:DB8::1"),
    ("2001:db8::1", "2001:db8::ffff:1"),
    ("fe80::1", "fe80::1%eth0"),
    ("1.2.3.4", "::ffff:1.2.3.4"),
    ("1.2.3.4", "::FFFF:102:304"),
]


@pytest.mark.parametrize(("first", "second"), ONE_CLIENT)
@pytest.mark.parametrize("kind", ["standalone", "standalone-asyncio"], indirect=True)
async def test_forms_of_an_address_and_a_network_of_ipv6_have_their_connections_together(
    first: str, second: str, kind: str, serve: Serve
) -> None:
    server = echo_server(max_per_address=1, trusted_proxies=["127.0.0.1"])
    client = await serve(server)
    assert (await come_from(first, client)).status == 200
    refusal = await come_from(second, client)
    assert (refusal.status, "'max_per_address'" in refusal.json()["message"]) == (429, True)
    assert server.metrics["error::refused"] == 1
    assert (await come_from("2001:db8:0:1::1", client)).status == 200
    assert (await come_from("1.2.3.5", client)).status == 200


async def come_from(address: str, client: Client) -> Response:
    """Send a handshake for which a proxy names the client's address."""
    proxied = {"X-Forwarded-For": f"[{address}]:4711" if ":" in address else address}
    return await client.fetch("GET", f"{HANDSHAKE}&account=a", proxied)


@pytest.mark.parametrize("limit", ["max_connections", "max_per_address"])
async def test_what_is_kept_of_a_connection_that_has_ended_takes_its_place(limit: str, kind: str, serve: Serve) -> None:
    server = echo_server(**{limit: 2})
    client = await serve(server)
    held = [await client.poll_in() for _ in range(2)]
    for session in tuple(server.node.hub.sessions):
        session.disconnect("enough")
    assert server.count() == 0
    refused = 0
    for _ in range(5):
        refusal = await client.fetch("GET", f"{HANDSHAKE}&account=a")
        refused += refusal.status in (429, 503)
        assert f"'{limit}'" in refusal.json()["message"]
    assert refused == server.metrics["error::refused"] == 5
    assert len(server.node.hub.connections) == 2
    for polling in held:
        assert (await polling.poll()).text == "1"
        await client.poll_in()
    assert (server.count(), server.node.hub.limits._total) == (2, 2)


async def test_what_nobody_fetches_gives_its_place_back_after_a_heartbeat(kind: str, serve: Serve) -> None:
    server = echo_server(max_connections=1, ping_interval=0.2, ping_timeout=0.2)
    client = await serve(server)
    await client.poll_in()
    next(iter(server.node.hub.sessions)).disconnect()
    async with asyncio.timeout(10):
        while (await client.fetch("GET", f"{HANDSHAKE}&account=a")).status != 200:
            assert server.metrics["error::refused"] > 0
    assert server.count() == 1


async def test_handshakes_of_an_address_are_limited_per_second(kind: str, serve: Serve) -> None:
    server = echo_server(handshakes_per_address=5)
    client = await serve(server)
    statuses = [(await client.fetch("GET", f"{HANDSHAKE}&account=a")).status for _ in range(5)]
    while 429 not in statuses:
        statuses.append((await client.fetch("GET", f"{HANDSHAKE}&account=a")).status)
    assert set(statuses) == {200, 429}
    assert statuses[:5] == [200] * 5
    while (await client.fetch("GET", f"{HANDSHAKE}&account=a")).status == 429:
        await asyncio.sleep(0.05)  # until the next second


async def test_a_server_that_ends_lets_nobody_in_any_more(kind: str, serve: Serve) -> None:
    server = Primacron()
    entered, gate = asyncio.Event(), asyncio.Event()
    opened = Hearing(server, "connection")

    @server.authorize
    async def authorize(request: HttpRequest) -> bool:
        entered.set()
        return await gate.wait()

    client = await serve(server)
    raw = await client.raw()
    await raw.send_request("GET", f"{HANDSHAKE}&account=a")
    await entered.wait()
    ending = asyncio.create_task(server.destroy())
    while not server.unready():
        await asyncio.sleep(0)
    gate.set()
    assert error_of(await raw.read_response()) == (503, 3)
    await ending
    assert opened.is_empty


async def test_a_listener_of_connections_may_turn_them_away_at_once(kind: str, serve: Serve) -> None:
    server = Primacron()
    server.on("connection", lambda session: session.disconnect("go away"))
    client = await serve(server)
    polling = await client.poll_in()
    assert (await polling.poll()).text == "1"
    socket = await client.websocket()
    assert str(await socket.receive())[0] == "0"
    close = await socket.receive_close()
    assert (close.code, close.reason) == (1000, "go away")


async def test_sessions_belong_to_one_account(kind: str, serve: Serve) -> None:
    server = named_server()
    client = await serve(server)
    for account in ("a", "b"):
        await client.poll_in(f"account={account}&session=s")
    found: list[Session] = list(server.node.hub.sessions)
    assert {(each.account, each.id) for each in found} == {("a", "s"), ("b", "s")}
