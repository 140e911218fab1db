"""What is counted, whether anybody hears of it or not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import primacron
from primacron import Primacron, Refused, Session
from primacron.metrics import METRICS, Metrics
from tests.conftest import Serve
from tests.hostile.arena import until


def test_every_counter_is_declared_and_begins_with_nothing() -> None:
    metrics = Metrics()
    assert len({metric.name for metric in METRICS}) == len(METRICS)
    for metric in METRICS:
        assert metric.help
        assert metrics[metric.name] == 0
    metrics.count("sessions_opened")
    metrics.count("sessions_opened", 4)
    assert metrics["sessions_opened"] == metrics.counters["sessions_opened"] == 5


def test_a_counter_that_is_not_declared_is_an_error() -> None:
    metrics = Metrics()
    with pytest.raises(KeyError, match="anything"):
        metrics.count("anything")
    with pytest.raises(KeyError, match="anything"):
        metrics["anything"]


def test_whatever_the_source_counts_is_declared() -> None:
    names = {metric.name for metric in METRICS}
    counted: set[str] = set()
    for file in Path(primacron.__file__).parent.rglob("*.py"):
        counted |= set(re.findall(r'metrics\.count\("([^"]+)"', file.read_text()))
    assert counted
    assert counted <= names
    assert names - counted - {"messages_received"} == {name for name in names if name.startswith("error::")}


async def test_sessions_messages_and_errors_are_counted_though_nobody_listens(kind: str, serve: Serve) -> None:
    server = Primacron(secret="s")

    @server.event("fail")
    def fail(session: Session) -> None:
        raise LookupError

    client = await serve(server)
    ann = await client.connect()
    await client.poll_in()
    await client.fetch("GET", "/stream/?EIO=4&transport=polling")
    await client.fetch("GET", "/stream/?EIO=9&transport=polling&account=a")
    await client.fetch("PUT", "/primacron/broadcast", {}, b"{}")
    for message in ("{", "[]", '{"event":"nobody"}', '{"event":"fail"}', '{"ack":7}'):
        await ann.socket.send(f"4{message}")
    await ann.socket.send("1")
    await ann.receive_close()
    await until(lambda: server.metrics["sessions_closed"], "the end of the session")
    assert {name: value for name, value in server.metrics.counters.items() if value} == {
        "sessions_opened": 2,
        "sessions_closed": 1,
        "error::refused": 2,  # without an account, without the secret
        "error::protocol": 1,
        "error::json": 1,
        "error::invalid": 1,
        "error::validation": 1,
        "error::handler": 1,
        "answers_unknown": 1,
    }
    assert server.metrics.messages_received == server.metrics["messages_received"] == 5


async def test_an_error_with_an_event_of_the_application_is_counted_as_what_it_is(kind: str, serve: Serve) -> None:
    class Sold(Refused):
        event = "error::sold"

    server = Primacron()

    @server.authorize
    def authorize(request: object) -> bool:
        raise Sold(403, "sold out")

    client = await serve(server)
    answer = await client.fetch("GET", "/stream/?EIO=4&transport=polling&account=a")
    assert answer.status == 403
    assert server.metrics["error::refused"] == 1


async def test_counters_outlive_the_server() -> None:
    server = Primacron()
    async with server:
        server.metrics.count("sessions_opened")
    assert server.metrics["sessions_opened"] == 1
