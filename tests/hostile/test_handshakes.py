"""Handshakes that name what there is not, and requests with the names of others: each is refused with the reason."""

from __future__ import annotations

import asyncio
import re
from urllib.parse import quote

import pytest

from primacron import Primacron
from primacron.errors import UnknownSid
from primacron.ids import Sid
from tests.conftest import Serve
from tests.hostile.arena import BOTH, HONEST, STANDALONE, Arena, assert_lives, get, message_of, until
from tests.hostile.conftest import Attack
from tests.support.websocket import encode_frame

# Transports

TRANSPORTS = [
    "__proto__",
    "constructor",
    "toString",
    "__class__",
    "__init__",
    "__dict__",
    "__getattribute__",
    "value",
    "name",
    "POLLING",
    "WebSocket",
    "polling%20",
    "%20websocket",
    "polling%00",
    "polling,websocket",
    "[polling]",
    "webtransport",
    "jsonp",
    "",
    "%ff",
    "%F0%9D%95%A1olling",
    "x" * 5000,
]


async def test_a_transport_of_any_other_name_is_unknown(kind: str, attack: Attack) -> None:
    arena = await attack()
    queries = [f"transport={name}" for name in TRANSPORTS]
    queries += ["", "transport", "Transport=polling", "transport[]=polling", "transport=polling&transport=__proto__"]
    for query in queries:
        for by in BOTH:
            response = await arena.handshake(f"EIO=4&account=mallory&{query}", by)
            await arena.refused(response, 0, "Transport unknown", case=query)
    assert arena.server.count() == 1


async def test_a_transport_of_any_other_name_is_unknown_to_a_connection_too(kind: str, attack: Attack) -> None:
    arena = await attack()
    polling = await arena.poll_in()
    for name in ("__proto__", "constructor", "__class__", "webtransport", ""):
        query = f"EIO=4&transport={name}&sid={polling.sid}"
        for by in BOTH:
            await arena.refused(await arena.handshake(query, by), 0, "Transport unknown", case=name)
        response = await arena.client.fetch("POST", f"/stream/?{query}", body=b"4x")
        await arena.refused(response, 0, "Transport unknown", case=name)
    await assert_lives(polling)


# Sids

SIDS = ["__proto__", "constructor", "toString", "__class__", "__hash__", "", "%00", "%ff", "*", "../", "0", "null"]


async def test_a_sid_that_nobody_was_given_is_unknown(kind: str, attack: Attack) -> None:
    arena = await attack()
    for sid in (*SIDS, "x" * 6000, quote("\uff21" * 30), "A" * 30 + "%0A"):
        query = f"EIO=4&sid={sid}"
        for by in BOTH:
            response = await arena.handshake(f"{query}&transport={by}", by)
            await arena.refused(response, 1, "Session ID unknown", case=sid)
        response = await arena.client.fetch("POST", f"/stream/?{query}&transport=polling", body=b"4x")
        await arena.refused(response, 1, "Session ID unknown", case=sid)
    assert arena.server.count() == 1


async def test_a_sid_of_ten_kilobytes_is_unknown(kind: str, attack: Attack) -> None:
    arena = await attack(max_query=20_000)
    response = await arena.handshake("EIO=4&transport=polling&sid=" + "s" * 10_240, "polling")
    await arena.refused(response, 1, "Session ID unknown")


async def test_a_sid_given_twice_is_refused_even_when_both_are_right(kind: str, attack: Attack) -> None:
    arena = await attack()
    polling = await arena.poll_in()
    for second in (polling.sid, "", "other"):
        for by in BOTH:
            response = await arena.handshake(f"EIO=4&transport={by}&sid={polling.sid}&sid={second}", by)
            await arena.refused(response, 3, "sid is given more than once", case=second)
    await assert_lives(polling)


async def test_a_sid_with_one_character_changed_is_unknown(kind: str, attack: Attack) -> None:
    arena = await attack()
    polling = await arena.poll_in()
    for place in range(len(polling.sid)):
        other = "A" if polling.sid[place] != "A" else "B"
        forged = polling.sid[:place] + other + polling.sid[place + 1 :]
        response = await arena.handshake(f"EIO=4&transport=polling&sid={forged}", "polling")
        await arena.refused(response, 1, "Session ID unknown", case=forged)
    await assert_lives(polling)


async def test_a_sid_of_another_account_is_refused_and_its_owner_disturbed_by_nothing(
    kind: str, attack: Attack
) -> None:
    arena = await attack()
    polling = await arena.poll_in("ann")
    arena.session("ann").emit("secret")
    for account in ("mallory", "Ann", "ann%00", "ann%20", "", "__class__"):
        query = f"EIO=4&sid={polling.sid}&account={account}"
        for by in BOTH:
            response = await arena.handshake(f"{query}&transport={by}", by)
            await arena.refused(response, 3, "the account is not that of the handshake", case=account)
        response = await arena.client.fetch("POST", f"/stream/?{query}&transport=polling", body=b"41")
        await arena.refused(response, 3, "the account is not that of the handshake", case=account)
    assert (await polling.poll()).text == '4{"event":"secret","args":[]}'
    await assert_lives(polling)


async def test_the_sid_of_a_websocket_opens_nothing_beside_it(kind: str, attack: Attack) -> None:
    arena = await attack()
    connection = arena.session(HONEST).connection
    assert connection is not None
    target = f"EIO=4&sid={connection.sid}"
    for method in ("GET", "POST"):
        response = await arena.client.fetch(method, f"/stream/?{target}&transport=polling", body=b"41")
        await arena.refused(response, 3, "the connection was upgraded to websocket")
    socket = await arena.client.websocket_to(f"/stream/?{target}&transport=websocket")
    close = await socket.receive_close()
    assert (close.code, close.reason) == (1002, "transport error")
    error, _ = await arena.error("error::protocol")
    assert "the connection is not on polling" in str(error)


# Upgrades to other protocols, and what is no websocket behind a handshake


async def test_a_reset_behind_an_upgrade_to_h2c_ends_that_session_and_disturbs_nobody(
    kind: str, attack: Attack
) -> None:
    arena = await attack()
    for number in range(10):
        polling = await arena.poll_in(f"mallory {number}")
        session = arena.session(f"mallory {number}")
        fields = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk")
        connection = await arena.raw(get(polling.target, *fields))
        await arena.polling(session.account)
        connection.abort()
        assert await arena.reason(session.account) == "transport close"
    assert arena.is_quiet


GARBAGE = [b"test", b"GET / HTTP/1.1\r\n\r\n", encode_frame(b"hello", reserved=3), b"\x81\x05hello", b"\x00" * 99]


@pytest.mark.parametrize("moment", ["before the probe", "probed"])
async def test_garbage_on_a_websocket_that_takes_over_ends_it_alone(kind: str, attack: Attack, moment: str) -> None:
    arena = await attack()
    polling = await arena.poll_in()
    session = arena.session("mallory")
    connection = session.connection
    assert connection is not None
    for garbage in GARBAGE:
        socket = await polling.probe()
        if moment == "probed":
            await socket.send("2probe")
            assert await socket.receive() == "3probe"
        await socket.raw.send(garbage)
        assert (await socket.receive_close()).code == 1002, garbage
        await socket.close()
        if kind != "asgi":  # where the outer server keeps it to itself
            _, context = await arena.error("error::protocol")
            assert context.session is session
        await until(lambda: connection.probe is None, "the end of the probe")
        await assert_lives(polling)
    assert arena.is_quiet


# Methods

METHODS = ["PUT", "PATCH", "DELETE", "TRACE", "PROPFIND", "HEAD"]


async def test_a_handshake_by_another_method_is_refused(kind: str, attack: Attack) -> None:
    arena = await attack()
    for method in ("POST", *METHODS):
        for body in (None, b"4x"):
            target = "/stream/?EIO=4&transport=polling&account=mallory"
            response = await arena.client.fetch(method, target, body=body)
            if method == "HEAD":
                assert (response.status, response.body) == (400, b"")
                await arena.error("error::protocol")
            else:
                await arena.refused(response, 2, "Bad handshake method", case=method)
    assert arena.server.count() == 1


async def test_a_connection_takes_get_and_post_alone_and_lives_on(kind: str, attack: Attack) -> None:
    arena = await attack()
    polling = await arena.poll_in()
    arena.session("mallory").emit("kept")
    for method in METHODS:
        for body in (None, b"41", b"x" * 1000):
            connection = await arena.raw()
            await connection.send_request(method, polling.target, {}, body)
            response = await connection.read_response(head_only=method == "HEAD")
            if method == "HEAD":
                assert (response.status, response.body) == (400, b"")
                await arena.error("error::protocol")
            else:
                await arena.refused(response, 3, f"method {method}", case=method)
            connection.abort()
    assert (await polling.poll()).text == '4{"event":"kept","args":[]}'
    await assert_lives(polling)


async def test_options_answers_browsers_and_opens_nothing(kind: str, attack: Attack) -> None:
    arena = await attack()
    for sid in ("", "&sid=__proto__"):
        response = await arena.client.fetch("OPTIONS", f"/stream/?EIO=4&transport=polling&account=mallory{sid}")
        assert (response.status, response.body) == (204, b"")
        assert "access-control-allow-origin" not in response.headers
    assert arena.server.count() == 1
    assert arena.is_quiet


async def test_a_method_that_is_none_is_refused(kind: str, attack: Attack) -> None:
    arena = await attack()
    target = "/stream/?EIO=4&transport=polling&account=mallory"
    connection = await arena.raw(get(target).replace(b"GET", b"FOO"))
    assert (await connection.read_response()).status == 400
    assert await connection.read_eof() == b""
    if kind != "asgi":  # where the outer server keeps it to itself
        await arena.error("error::protocol")
    assert arena.server.count() == 1


# Queries

VERSIONS = [
    "",
    "EIO=",
    "EIO=5",
    "EIO=2",
    "EIO=abc",
    "EIO=04",
    "EIO=4.0",
    "EIO=%2B4",
    "EIO=%204",
    "EIO=4%00",
    "EIO=%D9%A4",
]
VERSIONS += ["EIO=4&EIO=3", "EIO=4&EIO=4", "EIO[]=4", "eio=4", "EIO=__class__", "EIO=" + "4" * 5000, "EIO=1e0"]


async def test_a_protocol_that_is_not_offered_is_refused(kind: str, attack: Attack) -> None:
    arena = await attack()
    for version in VERSIONS:
        for by in BOTH:
            response = await arena.handshake(f"{version}&transport={by}&account=mallory", by)
            await arena.refused(response, 5, "Unsupported protocol version", case=version)
    assert arena.server.count() == 1


async def test_jsonp_is_refused_and_nothing_of_it_comes_back(kind: str, attack: Attack) -> None:
    arena = await attack()
    for callback in ("0", "%3Cscript%3E", "<script>alert(1)</script>", "", "__proto__"):
        for by in BOTH:
            response = await arena.handshake(f"EIO=4&transport={by}&account=mallory&j={callback}", by)
            assert b"script" not in response.body
            await arena.refused(response, 3, "JSONP (parameter 'j') is not offered", case=callback)
    assert arena.server.count() == 1


STRANGE = [
    "%zz=%",
    "%=%4&%",
    "a=%00&%00=a",
    "&&&&",
    "==&=&=a",
    "?&?=?",
    "+=%2B",
    "__class__=a&__init__=b&__proto__=c",
    "%ff=%fe",
    "a=" + "%ff" * 600,
    "&".join(["x"] * 45),
    "&".join(f"x{number}={number}" for number in range(45)),
    "b64=1",
    "b64=%00",
    "t=" + "T" * 3000,
]


async def test_a_query_may_have_anything_beside_what_counts(kind: str, attack: Attack) -> None:
    arena = await attack()
    for number, strange in enumerate(STRANGE):
        for by, status in (("polling", 200), ("websocket", 101)):
            query = f"{strange}&EIO=4&transport={by}&account=mallory-{by}-{number}&{strange}"
            assert (await arena.handshake(query, by)).status == status, strange
            assert arena.session(f"mallory-{by}-{number}").query["EIO"] == "4"
    assert arena.is_quiet


FILLERS = ("&", "x=%zz&", "%", "=", "account[]=a&", "a" * 64)


@pytest.mark.parametrize("by", BOTH)
async def test_a_query_over_max_query_is_refused_by_a_handshake_and_by_a_connection(
    by: str, kind: str, attack: Attack
) -> None:
    arena = await attack(max_query=300)
    fits = f"EIO=4&transport={by}&account=mallory&".ljust(300, "x")
    assert (await arena.handshake(fits, by)).status in (200, 101)
    assert arena.session("mallory").query["transport"] == by
    response = await arena.handshake(f"{fits}x", by)
    await arena.refused(response, 3, "at most 300 bytes (option 'max_query'), and has 301")
    polling = await arena.poll_in("another")
    query = polling.target.partition("?")[2].ljust(301, "&")
    await arena.refused(await arena.handshake(query, "polling"), 3, "option 'max_query'")
    await arena.refused(await arena.client.fetch("POST", f"/stream/?{query}", body=b"4x"), 3, "option 'max_query'")
    await assert_lives(polling)


async def test_a_query_of_sixty_kilobytes_is_refused_before_it_is_read(kind: str, attack: Attack) -> None:
    arena = await attack()
    for filler in FILLERS:
        query = (filler * 60_000)[:60_000]
        response = await arena.handshake(f"EIO=4&transport=polling&account=mallory&{query}", "polling")
        await arena.refused(response, 3, "at most 8192 bytes (option 'max_query'), and has 60")
    assert arena.server.count() == 1


async def test_a_query_of_more_than_a_hundred_parameters_is_refused(kind: str, attack: Attack) -> None:
    arena = await attack()
    for number, filler in enumerate(("&", "%&", "a=b&")):
        for by, status in (("polling", 200), ("websocket", 101)):
            query = f"EIO=4&transport={by}&account=mallory-{number}-{by}&"
            response = await arena.handshake(query + filler * 96, by)
            assert response.status == status
            response = await arena.handshake(query + filler * 97, by)
            await arena.refused(response, 3, "at most 100 parameters, and has 101")


async def test_a_handler_that_reads_the_query_for_each_message_reads_it_once(kind: str, attack: Attack) -> None:
    arena = await attack()
    query = "&".join(f"p{number}={'%41' * 20}" for number in range(97))
    assert (await arena.handshake(f"EIO=4&transport=polling&account=mallory&{query}", "polling")).status == 200
    session = arena.session("mallory")
    assert session.query is session.query
    assert session.query["p96"] == "A" * 20
    assert session.query_string.endswith(query)


@STANDALONE
async def test_a_query_over_the_limit_of_a_head_is_refused(kind: str, attack: Attack) -> None:
    arena = await attack()
    for size in (65_536, 1_048_576):
        connection = await arena.raw()
        sending = asyncio.create_task(connection.send(get("/stream/?EIO=4&transport=polling&account=" + "a" * size)))
        response = await connection.read_response()
        assert (response.status, message_of(response)) == (
            431,
            "the head of the request is larger than 65536 bytes (option 'max_header')",
        )
        sending.cancel()
        await asyncio.wait({sending})
        await arena.error("error::protocol")
    assert arena.server.count() == 1


# Many of them


@pytest.mark.parametrize("limit", [None, 500])
async def test_handshakes_that_never_poll_are_collected_at_their_deadline(
    kind: str, attack: Attack, limit: int | None
) -> None:
    arena = await attack(ping_interval=1, ping_timeout=0.6, max_connections=limit)
    before = arena.tables()
    statuses = await handshakes(arena, 2000)
    accepted = statuses.count(200)
    if limit is None:
        assert accepted == 2000
    else:
        # Those that were collected meanwhile have made room for others.
        assert set(statuses) == {200, 503}
        assert statuses[:499] == [200] * 499
        assert arena.server.metrics["error::refused"] == 2000 - accepted
    assert arena.server.count() <= (limit or 2001)
    await until(lambda: arena.tables().fit(before), "their end")
    assert arena.ended["mallory"] == ["ping timeout"] * accepted


async def handshakes(arena: Arena, count: int) -> list[int]:
    """Shake hands by polling, over some connections; return the statuses in their order."""
    connections = [await arena.raw() for _ in range(8)]
    statuses = []
    for _ in range(0, count, len(connections)):
        for connection in connections:
            await connection.send(get("/stream/?EIO=4&transport=polling&account=mallory"))
        statuses += [(await connection.read_response()).status for connection in connections]
    for connection in connections:
        await connection.close()
    return statuses


async def test_everybody_comes_back_at_once_after_a_restart_and_old_sids_are_unknown(
    kind: str, attack: Attack, serve: Serve
) -> None:
    first = Primacron()
    client = await serve(first)
    polling = [await client.poll_in(f"account=mallory-{number}") for number in range(100)]
    sockets = [await client.connect(f"account=mallory-{number}") for number in range(100, 200)]
    await first.destroy()
    for socket in sockets:
        assert await socket.receive_close() == (1012, "server shutdown")

    arena = await attack()
    foreign = str(UnknownSid(foreign=True))

    async def come_back(number: int) -> None:
        old = polling[number % 100].sid
        target = f"/stream/?EIO=4&transport=polling&sid={old}"
        for method in ("POST", "GET"):
            response = await arena.client.fetch(method, target, body=b"4x")
            assert (response.status, response.json()) == (400, {"code": 1, "message": foreign})
        assert (await arena.handshake(f"EIO=4&transport=websocket&sid={old}", "websocket")).json()["code"] == 1
        by = BOTH[number % 2]
        response = await arena.handshake(f"EIO=4&transport={by}&account=mallory-{number}", by)
        assert response.status in (200, 101)

    await asyncio.gather(*(come_back(number) for number in range(200)))
    assert arena.server.count() == 201
    for _ in range(600):
        error, _ = await arena.error("error::protocol")
        assert str(error) == foreign
    assert arena.is_quiet


async def test_a_sid_is_long_random_and_different_each_time(kind: str, attack: Attack) -> None:
    arena = await attack()
    sids = [(await arena.poll_in()).sid for _ in range(100)]
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{30}", sid) for sid in sids)
    assert len({sid[8:24] for sid in sids}) == 100
    assert Sid(sids[0]) in arena.server.node.hub.connections
