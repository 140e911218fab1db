"""What is counted, whether anybody hears of it or not."""

from __future__ import annotations

from primacron import Primacron, Session
from primacron.metrics import Metrics
from tests.conftest import Serve
from tests.hostile.arena import until


def test_a_counter_begins_with_nothing_and_looking_at_it_makes_none() -> None:
    metrics = Metrics()
    assert metrics["anything"] == 0
    assert dict(metrics.counters) == {}
    metrics.count("anything")
    metrics.count("anything", 4)
    assert metrics["anything"] == 5
    assert dict(metrics.counters) == {"anything": 5}


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
    assert dict(server.metrics.counters) == {
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
    assert server.metrics.messages_received == 5


async def test_counters_outlive_the_server() -> None:
    server = Primacron()
    async with server:
        server.metrics.count("mine")
    assert server.metrics["mine"] == 1
