"""The judge of promises finds each kind of broken one, and finds nothing where none was broken."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from primacron import Primacron, Session
from primacron.receipts import Reach, Receipt
from primacron.testing import Client, Cluster
from primacron.testing.promises import (
    AnyRecord,
    Arrived,
    Began,
    ClientWitness,
    Closed,
    Died,
    Ended,
    Found,
    Handled,
    Holds,
    Listed,
    Mark,
    Opened,
    Place,
    Reached,
    Sent,
    Stored,
    Told,
    Trouble,
    Witness,
    decode_records,
    encode_record,
    findings,
)

FIRST, SECOND = Mark("b", "session", 1), Mark("b", "session", 2)
TO_ALL = Mark("b", "everyone", 4)
#: A connection that lives all the time, at node a.
LIVES: list[AnyRecord] = [Began(0, "a", "sid", "ann", "one"), Opened(0.1, "sid", "ann", "one")]
#: What ends the time that is told of.
LATER = Died(100, "another")


def sent(mark: Mark, at: float = 10, status: str = "accepted", *, certain: bool = True) -> list[AnyRecord]:
    """Return a send to the session, and its receipt."""
    return [Sent(at, mark, "ann", "one"), Told(at + 0.1, mark, status, certain)]


def arrived(*marks: Mark, at: float = 10.2, sid: str = "sid") -> list[AnyRecord]:
    """Return what a client got."""
    return [Arrived(at, sid, mark) for mark in marks]


def quiet(at: float, *entries: tuple[str, str], held: tuple[tuple[str, str], ...]) -> list[AnyRecord]:
    """Return what registry and nodes have of the session ann/one: nodes and sids."""
    nodes = {node for node, _ in held} | {"a", "b"}
    real = {node: tuple(("ann", "one", sid) for each, sid in held if each == node) for node in sorted(nodes)}
    return [
        *(Holds(at, node, sessions) for node, sessions in real.items()),
        Stored(at, tuple((Place("ann", "one", node), sid) for node, sid in entries)),
    ]


BROKEN: dict[str, tuple[list[AnyRecord], str]] = {
    "accepted, and lost": ([*LIVES, *sent(FIRST)], "session send 1 of node b was certainly accepted at 10.10 s, but"),
    "accepted, and skipped by a connection that was closed later": (
        [*LIVES, *sent(FIRST), *sent(SECOND), *arrived(SECOND), Closed(11, "sid")],
        "session send 1 of node b was certainly accepted",
    ),
    "accepted by nobody": (sent(FIRST), "no node had ann/one then"),
    "unsent, and arrived": ([*LIVES, *sent(FIRST, status="unsent"), *arrived(FIRST)], "certainly unsent at 10.10 s"),
    "unknown, and there": ([*LIVES, *sent(FIRST, status="unknown_session")], "though connection sid of ann/one lived"),
    "no receipt": ([*LIVES, Sent(10, FIRST, "ann", "one")], "the receipt of session send 1 of node b"),
    "a late receipt": ([*LIVES, Sent(10, FIRST, "ann", "one"), Told(30, FIRST, "timed_out", False)], "late: 20.0 s"),
    "twice": ([*LIVES, *sent(FIRST), *arrived(FIRST, FIRST)], "session send 1 of node b arrived 2 times"),
    "twice, at two connections": (
        [*LIVES, *sent(FIRST), *arrived(FIRST), *arrived(FIRST, sid="other", at=20)],
        "session send 1 of node b arrived 2 times: sid at 10.20 s, other at 20.00 s",
    ),
    "to everyone, twice at one": (
        [*LIVES, Sent(10, TO_ALL), *arrived(TO_ALL, TO_ALL), Reached(10.3, TO_ALL, 2, 1, True)],
        "everyone send 4 of node b arrived 2 times at connection sid",
    ),
    "in the wrong order": (
        [*LIVES, *sent(FIRST), *sent(SECOND), *arrived(SECOND, FIRST)],
        "session send 1 of node b arrived behind 2 on connection sid of ann/one",
    ),
    "reached too few": (
        [*LIVES, Sent(10, TO_ALL), Reached(10.3, TO_ALL, 2, 0, True)],
        "everyone send 4 of node b certainly reached 0 sessions at 10.30 s, but not connection sid",
    ),
    "reached more than it says": (
        [*LIVES, Sent(10, TO_ALL), *arrived(TO_ALL), Reached(10.3, TO_ALL, 2, 0, True)],
        "everyone send 4 of node b certainly reached 0 sessions at 10.30 s, but arrived at 1",
    ),
    "reached less than it says": (
        [*LIVES, Sent(10, TO_ALL), *arrived(TO_ALL), Reached(10.3, TO_ALL, 2, 2, True)],
        "but there were only 1 that it can have reached",
    ),
    "handled twice": (
        [*LIVES, *(Handled(5, "a", "sid", number) for number in (1, 2, 2))],
        "message 2 of connection sid of ann/one was handled as number 3",
    ),
    "not handled": (
        [*LIVES, *(Handled(5, "a", "sid", number) for number in (1, 3))],
        "message 3 of connection sid of ann/one was handled as number 2",
    ),
    "not found": ([*LIVES, Found(10, 9.9, "b", "ann", "one", "")], "find of node b found nobody at 10.00 s"),
    "two owners": (
        [*LIVES, Began(20, "b", "other", "ann", "one"), Ended(40, "a", "sid", "replaced")],
        "ann/one had two owners from 20.00 s to 40.00 s: node a (sid) and node b (other)",
    ),
    "one connection at two nodes": (
        [*LIVES, Began(20, "b", "sid", "ann", "one", moved=True)],
        "ann/one had two owners from 20.00 s to 100.00 s: node a (sid) and node b (sid)",
    ),
    "the dead found": (
        [Died(10, "a"), Found(20, 20, "b", "ann", "one", "a")],
        "find of node b named node a for ann/one",
    ),
    "the dead listed": (
        [Died(10, "a"), Listed(20, 20, "b", "", (Place("ann", "one", "a"),))],
        "sessions() of node b named node a for ann/one at 10.00 s, 10.0 s after its end",
    ),
    "connection twice": ([*LIVES, Began(5, "a", "sid", "ann", "one")], "connection was heard 2 times"),
    "disconnection twice": (
        [*LIVES, Closed(5, "sid"), Ended(5, "a", "sid"), Ended(6, "b", "sid")],
        "disconnection was heard 2 times for connection sid of ann/one",
    ),
    "disconnection never": (
        [*LIVES, Closed(5, "sid"), *quiet(90, held=())],
        "disconnection was never heard for connection sid of ann/one",
    ),
    "a connection without end": (
        [*LIVES, Closed(5, "sid"), *quiet(90, ("a", "sid"), held=(("a", "sid"),))],
        "node a still has connection sid of ann/one, whose client went away at 5.00 s",
    ),
    "a connection without a client": (
        [LIVES[0], *quiet(90, ("a", "sid"), held=(("a", "sid"),))],
        "node a has connection sid of ann/one, which has never reached a client",
    ),
    "a client without a connection": (
        [*LIVES, Ended(5, "a", "sid"), *quiet(90, held=())],
        "the client of connection sid of ann/one still waits, though no node has it",
    ),
    "an entry without a session": (
        [*LIVES, *quiet(90, ("b", "ghost"), ("a", "sid"), held=(("a", "sid"),))],
        "at the quiet moment at 90.00 s the registry has ann/one at node b, which has no ghost",
    ),
    "a session without an entry": (
        [*LIVES, *quiet(90, held=(("a", "sid"),))],
        "at the quiet moment at 90.00 s node a has ann/one (sid), but the registry does not say so",
    ),
    "two at the end": (
        [
            *LIVES,
            Began(89, "b", "other", "ann", "one"),
            Opened(89, "other", "ann", "one"),
            *quiet(90, ("b", "other"), held=(("a", "sid"), ("b", "other"))),
        ],
        "ann/one is at a (sid) and at b (other)",
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_promise_is_found(what: str) -> None:
    records, sentence = BROKEN[what]
    assert any(sentence in finding for finding in findings([*records, LATER])), findings([*records, LATER])


KEPT: dict[str, list[AnyRecord]] = {
    "nothing": [],
    "a send that arrives": [*LIVES, *sent(FIRST), *arrived(FIRST)],
    "a send that is lost with its connection": [*LIVES, *sent(FIRST), Closed(10.3, "sid"), Ended(10.4, "a", "sid")],
    "a send that is lost with its node": [*LIVES, *sent(FIRST), Died(10.3, "a"), Closed(11, "sid")],
    "a send to one of two connections, of which one was lost": [
        *LIVES,
        Began(10, "b", "other", "ann", "one"),
        *sent(FIRST),
        Ended(11, "a", "sid", "replaced"),
        Closed(11, "sid"),
        Opened(10, "other", "ann", "one"),
    ],
    "uncertain receipts": [
        *LIVES,
        *sent(FIRST, status="timed_out", certain=False),
        *sent(SECOND, status="node_gone", certain=False),
        *arrived(SECOND),
    ],
    "unknown, and not there yet": [*sent(FIRST, 0.05, status="unknown_session"), *LIVES],
    "unknown, as its node was cut off": [*LIVES, Trouble(4, 20, "a"), *sent(FIRST, status="unknown_session")],
    "unknown, as there was nobody": [*sent(FIRST, status="unknown_session")],
    "no receipt, as the sender died": [*LIVES, Sent(10, FIRST, "ann", "one"), Died(11, "b")],
    "a late receipt of one that stood still": [
        *LIVES,
        Sent(10, FIRST, "ann", "one"),
        Trouble(10, 29, "b"),
        Told(30, FIRST, "timed_out", False),
    ],
    "order of other kinds and of other senders": [
        *LIVES,
        *sent(SECOND),
        *arrived(SECOND, Mark("b", "account", 1), Mark("c", "session", 1)),
    ],
    "a reach that is exact": [*LIVES, Sent(10, TO_ALL), *arrived(TO_ALL), Reached(10.3, TO_ALL, 2, 1, True)],
    "a reach that is not certain": [*LIVES, Sent(10, TO_ALL), Reached(15, TO_ALL, 1, 0, False, 1)],
    "a reach without one that has just come": [
        Sent(10, TO_ALL),
        Began(10.1, "a", "sid", "ann", "one"),
        Reached(10.3, TO_ALL, 2, 0, True),
    ],
    "a reach that was lost with a connection": [
        *LIVES,
        Sent(10, TO_ALL),
        Reached(10.3, TO_ALL, 2, 1, True),
        Closed(10.4, "sid"),
    ],
    "a reach of another account": [
        *LIVES,
        Sent(10, Mark("b", "account", 4), "ben"),
        Reached(10.3, Mark("b", "account", 4), 1, 0, True),
    ],
    "messages that are handled in order, wherever": [
        *LIVES,
        Handled(5, "a", "sid", 1),
        Ended(6, "a", "sid", moved=True),
        Began(6, "b", "sid", "ann", "one", moved=True),
        Handled(7, "b", "sid", 2),
    ],
    "two owners for a moment": [*LIVES, Began(20, "b", "other", "ann", "one"), Ended(21, "a", "sid", "replaced")],
    "two owners while one is cut off": [
        *LIVES,
        Trouble(15, 40, "a"),
        Began(20, "b", "other", "ann", "one"),
        Ended(41, "a", "sid", "replaced"),
    ],
    "an owner that has died": [*LIVES, Died(20, "a"), Began(21, "b", "other", "ann", "one")],
    "the dying found": [Died(10, "a"), Found(12, 12, "b", "ann", "one", "a")],
    "the dead found by one that stood still": [
        Died(10, "a"),
        Trouble(12, 30, "b"),
        Found(30.1, 30.1, "b", "ann", "one", "a"),
    ],
    "a whole life": [*LIVES, Closed(5, "sid"), Ended(5.1, "a", "sid"), *quiet(90, held=())],
    "a death without a last word": [*LIVES, Died(5, "a"), Closed(6, "sid"), *quiet(90, ("a", "sid"), held=())],
    "a quiet moment": [*LIVES, *quiet(90, ("a", "sid"), held=(("a", "sid"),))],
    "a connection whose client has just gone": [
        *LIVES,
        Closed(80, "sid"),
        *quiet(90, ("a", "sid"), held=(("a", "sid"),)),
    ],
}


@pytest.mark.parametrize("what", KEPT)
def test_what_was_not_promised_is_no_finding(what: str) -> None:
    assert findings([*KEPT[what], LATER]) == []


def test_records_are_read_back_as_they_were_written() -> None:
    records = [record for records, _ in BROKEN.values() for record in records]
    assert decode_records(map(encode_record, records)) == records
    with pytest.raises(msgspec.DecodeError):
        decode_records([encode_record(LATER)[:-5]])


async def test_witnesses_write_down_what_servers_and_clients_do() -> None:
    log: list[AnyRecord] = []

    def create(shared: object) -> Primacron:
        server = Primacron(shared, namespace="shop")
        server.uuid(lambda request: request.query["session"])
        return server

    async with Cluster(create, nodes=2) as cluster:
        near, far = cluster.servers
        here, there = Witness(near, log.append), Witness(far, log.append)

        @near.event("say")
        def say(session: Session, number: int) -> None:
            here.handled(session, number)

        ann = await Client.connect(near, "ann", query={"session": "phone"})
        listening = ClientWitness(ann, "ann", "phone", log.append)
        assert await there.send(far.session("ann", "phone")) == Receipt("accepted")
        assert await there.send(far.account("ann")) == Reach(2, 1)
        assert (await here.send(near.everyone)) == Reach(1, 1)
        await ann.call("say", 1)
        assert (await there.find("ann", "phone")) is not None
        assert len(await there.sessions()) == len(await here.sessions("ann")) == 1
        near.session("ann", "phone").emit("other")
        await asyncio.sleep(0)
        assert [each.event for each in await listening.take_all()] == ["other"]
        assert here.holds().sessions == (("ann", "phone", ann.opened["sid"]),)
        await listening.close()
        there.holds()
    assert findings(log) == []
    told = [type(record).__name__ for record in log]
    assert told == [
        *("Began", "Opened", "Sent", "Told", "Sent", "Reached", "Sent", "Reached", "Handled", "Found", "Listed"),
        *("Listed", "Arrived", "Arrived", "Arrived", "Holds", "Closed", "Ended", "Holds"),
    ]
    lost = [record for record in log if not isinstance(record, Arrived | Closed)]
    # One was certainly accepted, two certainly reached somebody: a client that did not go away has got nothing.
    assert len(findings([*lost, Died(log[-1].at + 60, "another")])) == 3
