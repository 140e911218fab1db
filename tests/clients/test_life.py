"""The life of the official clients' connections: refused, kept alive, closed from each side with the reason."""

from __future__ import annotations

import asyncio
import json
import time

from primacron import HttpRequest, Primacron, Refused, Session
from primacron.protocol.engine import Phase
from tests.conftest import Serve
from tests.support.hearing import Hearing
from tests.support.node import run_node

KINDS = [
    f"{protocol} {transports}" for protocol in (4, 3) for transports in ("polling", "websocket", "polling websocket")
]


async def test_heartbeats_keep_connections_and_missing_ones_end_them(kind: str, serve: Serve) -> None:
    server = Primacron(ping_interval=0.3, ping_timeout=1.0)
    ends = Hearing(server, "disconnection")

    @server.event("freeze")
    def freeze(session: Session) -> None:
        time.sleep(1.8)

    results = await run_node("heartbeat.mjs", (await serve(server)).port)
    assert [result for result in results if "alive" in result] == [{"kind": kind, "alive": True} for kind in KINDS]
    assert [result for result in results if "dropped" in result] == [{"kind": kind, "dropped": True} for kind in KINDS]
    assert [result for result in results if "missed" in result] == [
        {"kind": kind, "missed": "ping timeout"} for kind in KINDS
    ]
    assert [(await ends.next())[1] for _ in KINDS] == ["ping timeout"] * len(KINDS)


async def test_each_side_closes_and_the_other_one_hears_the_reason(kind: str, serve: Serve) -> None:
    server = Primacron()
    ends = Hearing(server, "disconnection")

    @server.event("end")
    def end(session: Session) -> None:
        session.emit("last", "words")
        session.disconnect("enough")

    @server.on("connection")
    def watch(session: Session) -> None:
        if session.query["client"].endswith("server upgrading"):
            session.task(_end_while_probed(session))

    results = await run_node("closing.mjs", (await serve(server)).port)
    heard = {}
    for _ in results:
        session, reason = await ends.next()
        heard[session.query["client"]] = reason
    assert ends.is_empty
    assert {f"{result['kind']} {result['by']}" for result in results} == set(heard)
    for result in results:
        where, by = result["kind"], result["by"]
        polling = where.endswith("polling")
        reason = heard[f"{where} {by}"]
        if by.startswith("client"):
            # On a websocket the official clients say no goodbye, they close it.
            assert reason == ("client close" if polling else "transport close")
            assert result["reason"] == "forced close"
        else:
            assert reason == "enough"
            assert result["reason"] == "transport close"
            assert result["got"] == [["words"]]
        if by == "server" and not polling and where.startswith("4"):
            assert (result["code"], result["text"]) == (1000, "enough")


async def _end_while_probed(session: Session) -> None:
    while session.connection is not None and session.connection.phase is not Phase.PROBING:
        await asyncio.sleep(0)
    session.emit("last", "words")
    session.disconnect("enough")


async def test_clients_hear_that_they_are_turned_away(kind: str, serve: Serve) -> None:
    server = Primacron()

    @server.authorize
    def authorize(request: HttpRequest) -> bool:
        if request.query["account"] == "mallory":
            raise Refused(403, "not you")
        return True

    results = await run_node("refusal.mjs", (await serve(server)).port)
    assert [(result["kind"], result["account"]) for result in results] == [
        (kind, account) for kind in KINDS for account in ("", "mallory")
    ]
    for result in results:
        status = 403 if result["account"] else 400
        if result["kind"].endswith(" websocket") and "polling" not in result["kind"]:
            assert result["message"] == "websocket error"
            assert result["status"] == f"Unexpected server response: {status}"
        else:
            assert (result["message"], result["status"]) == ("xhr poll error", status)
            if result["kind"].startswith("3"):
                continue  # its errors do not carry the answer
            body = json.loads(result["body"])
            assert body["code"] == (4 if status == 403 else 3)
            assert ("not you" if status == 403 else "account") in body["message"]
