"""Who somebody says to be: pages of other origins, accounts of odd names, addresses that nobody vouches for."""

from __future__ import annotations

import gc
import tracemalloc
from urllib.parse import quote

import pytest

from primacron import HttpRequest, Primacron
from primacron.errors import OriginRefused
from tests.hostile.arena import BOTH, HONEST, STANDALONE, assert_lives, get, message_of
from tests.hostile.conftest import Attack

# Origins

FOREIGN = [
    "null",
    "http://evil.example",
    "http://localhost.evil.example",
    "http://evil.example/localhost",
    "http://evil.example#localhost",
    "http://evil.example?localhost",
    "http://localhost@evil.example",
    "http://evil.example:80@localhost",
    "http://localhost:8080",
    "http://localhost:",
    "http://localhost:99999999999",
    "http://localhost, http://evil.example",
    "http://evil.example http://localhost",
    "http://localhost/",
    "http://localhost\\@evil.example",
    "http://[::1",
    "http://",
    "//localhost",
    "localhost",
    "file://",
    "data:text/html,localhost",
    "javascript:alert(1)",
    "chrome-extension://abcdefgh",
    "__proto__",
    "*",
    "%00",
    "http://localhost%00.evil.example",
    "http://" + "a" * 6000,
]


async def test_a_page_of_another_origin_is_refused_whatever_it_calls_itself(kind: str, attack: Attack) -> None:
    arena = await attack()
    polling = await arena.poll_in()
    for origin in FOREIGN:
        for by in BOTH:
            for query in ("account=mallory", f"sid={polling.sid}"):
                response = await arena.handshake(f"EIO=4&transport={by}&{query}", by, {"Origin": origin})
                message = message_of(response)
                assert (response.status, response.json()["code"]) == (400, 3), origin
                assert "'localhost'" in message, origin
                assert len(message) < 600
                error, _ = await arena.error("error::refused")
                assert isinstance(error, OriginRefused)
        response = await polling.post("4x", {"Origin": origin})
        await arena.refused(response, 3, "may not connect", event="error::refused", case=origin)
    assert arena.server.count() == 2
    await assert_lives(polling)


async def test_an_origin_with_a_control_character_is_refused(kind: str, attack: Attack) -> None:
    arena = await attack()
    for origin in ("http://localhost\x01", "a\x01b", "http://localhost\x00", "http://localhost\x7f"):
        request = get("/stream/?EIO=4&transport=polling&account=mallory", f"Origin: {origin}")
        response = await arena.ask(request)
        assert response.status == 400, origin
        if kind != "asgi":  # where the outer server has refused it
            assert message_of(response).startswith("malformed request"), origin
            await arena.error("error::protocol")
    assert arena.server.count() == 1


async def test_origins_that_were_seen_are_not_kept(kind: str, attack: Attack) -> None:
    arena = await attack()
    connection = await arena.raw()

    async def visit(origin: str) -> int:
        """Connect from a hundred pages of one host; return the bytes that stay."""
        tracemalloc.start()
        try:
            for port in range(100):
                fields = {"Origin": f"{origin}:{port}"}
                await connection.send_request("GET", "/stream/?EIO=4&transport=polling&account=mallory", fields)
                assert (await connection.read_response()).status == 400
                await arena.error("error::refused")
            arena.forget_errors()
            gc.collect()
            return tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()

    short = await visit("http://a.example")
    assert await visit("http://" + "a" * 50_000) < short + 200_000


# Accounts

BAD_ACCOUNTS = [
    ("", "is missing"),
    ("Account=mallory", "is missing"),
    ("account[]=mallory", "is missing"),
    ("account", "is not usable"),
    ("account=", "is not usable"),
    ("account=a&account=a", "is given more than once"),
    ("account=a&account=b", "is given more than once"),
    ("account=a&account", "is given more than once"),
    ("account=a&%61ccount=b", "is given more than once"),
    ("account=" + "a" * 129, "is not usable"),
    ("account=" + quote("\U0001f600") * 129, "is not usable"),
    ("account=" + "a" * 6000, "is not usable"),
    ("account=%00", "is not usable"),
    ("account=a%00b", "is not usable"),
    ("account=a%0Ab", "is not usable"),
    ("account=a%0D%0AX:%20y", "is not usable"),
    ("account=a%1Eb", "is not usable"),
    ("account=a%7Fb", "is not usable"),
    ("account=a%C2%85b", "is not usable"),
    ("account=%FF", "is not usable"),
    ("account=%C0%80", "is not usable"),
    ("account=%ED%A0%80", "is not usable"),
    ("account=%EF%BF%BD", "is not usable"),
]


async def test_an_account_that_is_not_usable_is_refused_with_the_reason(kind: str, attack: Attack) -> None:
    arena = await attack()
    for query, why in BAD_ACCOUNTS:
        for by in BOTH:
            response = await arena.handshake(f"EIO=4&transport={by}&{query}", by)
            await arena.refused(response, 3, f"account {why}", event="error::refused", case=query)
    assert arena.server.count() == 1


async def test_an_account_of_fifty_kilobytes_is_refused(kind: str, attack: Attack) -> None:
    arena = await attack(max_query=60_000)
    response = await arena.handshake("EIO=4&transport=polling&account=" + "a" * 50_000, "polling")
    await arena.refused(response, 3, "account is not usable", event="error::refused")


ODD_ACCOUNTS = [
    "*",
    "?",
    "[a-z]*",
    "\\*",
    "a:b",
    "a::b",
    "a::b::pipe",
    "primacron:*",
    "{a}",
    "a@b",
    "a|b",
    "a,b",
    "../",
    "../../etc/passwd",
    "/",
    "%",
    "%2e%2e%2f",
    " ",
    " a",
    "a ",
    "'; DROP TABLE accounts; --",
    "<script>alert(1)</script>",
    '{"$gt":""}',
    "__proto__",
    "__class__",
    "constructor",
    "None",
    "null",
    "undefined",
    "0",
    "-1",
    "ann",
    "Ann",
    "аnn",  # noqa: RUF001 (begins with a Cyrillic letter)
    "ａｎｎ",  # noqa: RUF001 (full width)
    "ann\u200b",
    "ann\u202e",
    "anné",
    "anne\u0301",
    "ß",
    "ss",
    "ı",  # noqa: RUF001 (without its dot)
    "i",
    "\U0001f600" * 128,
    "a" * 128,
]


async def test_accounts_of_any_odd_name_are_told_apart(kind: str, attack: Attack) -> None:
    arena = await attack()
    clients = [await arena.poll_in(name) for name in ODD_ACCOUNTS]
    assert arena.server.count() == 1 + len(ODD_ACCOUNTS)
    for number, name in enumerate(ODD_ACCOUNTS):
        assert (await arena.server.account(name).emit("yours", number)).sessions == 1, name
    for number, client in enumerate(clients):
        assert (await client.poll()).text == f'4{{"event":"yours","args":[{number}]}}'
    assert (await arena.server.account("nobody").emit("yours")).sessions == 0


async def test_an_account_named_like_the_session_or_sid_of_another_hears_nothing_of_that(
    kind: str, attack: Attack
) -> None:
    arena = await attack()
    polling = await arena.poll_in("ann")
    session = arena.session("ann")
    for name in (session.id, polling.sid, f"ann/{session.id}", f"ann::{session.id}"):
        lurking = await arena.poll_in(name)
        session.emit("secret")
        await arena.server.session("ann", session.id).emit("secret")
        await arena.server.account("ann").emit("secret")
        arena.session(name).emit("end")
        assert (await lurking.poll()).text == '4{"event":"end","args":[]}'
    assert (await polling.poll()).text.count("secret") == 12


async def test_a_session_id_that_the_query_names_is_not_believed(kind: str, attack: Attack) -> None:
    arena = await attack()
    ann = await arena.client.connect("account=ann")
    session = arena.session("ann")
    for name in ("session", "id", "session_id", "sessionId"):
        query = f"EIO=4&transport=polling&account=ann&{name}={session.id}"
        assert (await arena.handshake(query, "polling")).status == 200
    ids = {each.id for each in arena.server.node.hub.sessions if each.account == "ann"}
    assert len(ids) == 5
    session.emit("still here")
    assert await ann.receive() == {"event": "still here", "args": []}


# Fields of proxies

SPOOFED = {
    "X-Forwarded-For": "203.0.113.7",
    "X-Real-IP": "203.0.113.7",
    "Forwarded": "for=203.0.113.7;host=evil.example;proto=https",
    "X-Forwarded-Host": "evil.example",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Port": "443",
}


@pytest.mark.parametrize("trusted", [[], ["10.0.0.0/8", "::1/128"]])
async def test_a_host_that_a_stranger_says_to_have_forwarded_lets_no_page_in(
    kind: str, attack: Attack, trusted: list[str]
) -> None:
    arena = await attack(trusted_proxies=trusted)
    if kind == "asgi":
        # The outer server believes this machine's X-Forwarded-For, which is not what is asked here.
        spoofed = {name: value for name, value in SPOOFED.items() if name != "X-Forwarded-For"}
    else:
        spoofed = SPOOFED
    for by in BOTH:
        headers = {**spoofed, "Origin": "https://evil.example"}
        response = await arena.handshake(f"EIO=4&transport={by}&account=mallory", by, headers)
        await arena.refused(response, 3, "'https://evil.example' may not connect", event="error::refused")


@STANDALONE
@pytest.mark.parametrize("trusted", [[], ["10.0.0.0/8", "::1/128"]])
async def test_an_address_that_a_stranger_says_to_have_forwarded_is_not_believed(
    kind: str, attack: Attack, trusted: list[str]
) -> None:
    server = Primacron(trusted_proxies=trusted)
    asked: list[HttpRequest] = []

    @server.authorize
    def authorize(request: HttpRequest) -> bool:
        asked.append(request)
        return True

    arena = await attack(server)
    for by in BOTH:
        query = f"EIO=4&transport={by}&account=mallory-{by}"
        assert (await arena.handshake(query, by, SPOOFED)).status in (200, 101)
        assert arena.session(f"mallory-{by}").peer == "127.0.0.1"
        assert (asked[-1].peer, asked[-1].secure, asked[-1].host) == ("127.0.0.1", False, "localhost")


@STANDALONE
async def test_another_forwarded_address_with_each_handshake_does_not_get_past_the_limit_of_one(
    kind: str, attack: Attack
) -> None:
    arena = await attack(max_per_address=3)
    query = "EIO=4&transport=polling&account=mallory"
    for number in range(2):
        assert (await arena.handshake(query, "polling", {"X-Forwarded-For": f"203.0.113.{number}"})).status == 200
    for number in range(20):
        headers = {"X-Forwarded-For": f"203.0.113.{number}", "Forwarded": f"for=198.51.100.{number}"}
        response = await arena.handshake(query, "polling", headers)
        await arena.refused(response, 3, "3 connections of one address", status=429, event="error::refused")
    assert arena.server.count() == 3


async def test_a_mistake_in_authorize_tells_the_client_nothing(kind: str, attack: Attack) -> None:
    class Secretive(Primacron):
        def authorize(self, request: HttpRequest) -> bool:  # type: ignore[override]
            if request.query["account"] != HONEST:
                raise KeyError("password=hunter2")
            return True

    arena = await attack(Secretive())
    for by in BOTH:
        response = await arena.handshake(f"EIO=4&transport={by}&account=mallory", by)
        assert (response.status, response.json()) == (500, {"code": 3, "message": "internal error"})
        error, _ = await arena.error("error::handler")
        assert isinstance(error, KeyError)
