"""The judge finds each kind of broken promise about channels, and finds nothing where none was broken."""

from __future__ import annotations

from collections import Counter

import pytest

from primacron import Primacron
from primacron.receipts import Reach
from primacron.testing import Client, Cluster
from primacron.testing.promises import (
    AnyRecord,
    Arrived,
    Began,
    ClientWitness,
    Closed,
    Counted,
    Died,
    Emptied,
    Ended,
    Entered,
    Exited,
    Joined,
    Left,
    Limits,
    Mark,
    Missed,
    Named,
    Opened,
    Reached,
    Seated,
    Sent,
    Settled,
    Shown,
    Took,
    Trouble,
    Witness,
    decode_records,
    encode_record,
    findings,
)

#: A connection of each of two clients, at two nodes, and what ends the time that is told of.
ANN: list[AnyRecord] = [Began(0, "a", "ann1", "ann", "one"), Opened(0.1, "ann1", "ann", "one")]
BEN: list[AnyRecord] = [Began(0, "b", "ben1", "ben", "one"), Opened(0.1, "ben1", "ben", "one")]
LATER = Died(100, "another")
LIMITS = Limits(history=10)


def mark(number: int) -> Mark:
    """Return a message to the lot."""
    return Mark("b", "channel:lot", number)


def joined(at: float = 1, offset: int = 0, sid: str = "ann1", epoch: str = "E") -> list[AnyRecord]:
    """Return a first join."""
    return [Joined(at, sid, "lot", epoch, offset)]


def back(
    at: float, since: int, offset: int, *, recovered: bool = True, sid: str = "ann2", epoch: str = "E", old: str = "E"
) -> list[AnyRecord]:
    """Return a join on a new connection, with a position."""
    return [
        Began(at - 0.2, "b", sid, "ann", "one"),
        Opened(at - 0.1, sid, "ann", "one"),
        Joined(at, sid, "lot", epoch, offset, (old, since), recovered),
    ]


def gone(at: float, sid: str = "ann1") -> list[AnyRecord]:
    """Return the end of a connection."""
    return [Closed(at, sid), Ended(at, "a", sid)]


def took(at: float, *offsets: int, sid: str = "ann1", more: int = 0) -> list[AnyRecord]:
    """Return messages, whose numbers are their offsets and so many more."""
    return [Took(at, sid, "lot", mark(offset + more), offset) for offset in offsets]


def kept(at: float, *offsets: int, epoch: str = "E", more: int = 0) -> list[AnyRecord]:
    """Return sends that are in the history."""
    records: list[AnyRecord] = []
    for offset in offsets:
        records += [Sent(at, mark(offset + more)), Reached(at, mark(offset + more), 2, 2, True, 0, epoch, offset)]
    return records


def missed(at: float, begin: int, end: int | None, sid: str = "ann1", epoch: str = "E") -> list[AnyRecord]:
    """Return a gap."""
    return [Missed(at, sid, "lot", epoch, begin, end)]


#: Somebody who misses nothing.
WITNESS = [*BEN, *joined(sid="ben1")]
FIVE = [*kept(10, 1, 2, 3, 4, 5), *WITNESS, *took(10, 1, 2, 3, 4, 5, sid="ben1")]

HISTORIES: dict[str, tuple[list[AnyRecord], str]] = {
    "lost between two": (
        [*FIVE, *ANN, *joined(), *took(10, 1, 2, 4, 5)],
        "ann/one in lot never received channel:lot send 3 of node b, E:3",
    ),
    "lost at the end": ([*FIVE, *ANN, *joined(), *took(10, 1, 2, 3, 4)], "never received channel:lot send 5 of node b"),
    "lost in the beginning": (
        [*FIVE, *ANN, *joined(offset=1), *took(10, 3, 4, 5)],
        "never received channel:lot send 2",
    ),
    "lost, and known of nobody but the publisher": (
        [*kept(10, 1), *ANN, *joined()],
        "never received channel:lot send 1 of node b",
    ),
    "lost between two connections": (
        [*FIVE, *ANN, *joined(), *took(10, 1, 2), *gone(11), *back(12, 2, 5), *took(12, 4, 5, sid="ann2")],
        "never received channel:lot send 3 of node b",
    ),
    "lost beside a gap": (
        [*FIVE, *ANN, *joined(), *took(10, 1), *missed(10, 3, 3), *took(10, 4, 5)],
        "never received channel:lot send 2 of node b",
    ),
    "doubled": ([*FIVE, *ANN, *joined(), *took(10, 1, 2, 2, 3, 4, 5)], "received channel:lot send 2 of node b twice"),
    "doubled on two connections": (
        [*FIVE, *ANN, *joined(), *took(10, 1, 2, 3), *gone(11), *back(12, 3, 5), *took(12, 3, 4, 5, sid="ann2")],
        "received channel:lot send 3 of node b twice, at 10.00 s and at 12.00 s",
    ),
    "doubled in another epoch": (
        [
            *FIVE,
            Emptied(8),
            *ANN,
            *joined(),
            *took(9, 1, 2, 3),
            *missed(9, 4, None, epoch="F"),
            *took(9, 4, 5, more=-1),
        ],
        "received channel:lot send 3 of node b twice",
    ),
    "in disorder": (
        [*FIVE, *ANN, *joined(), *took(10, 1, 3, 2, 4, 5)],
        "received offset 2 (channel:lot send 2 of node b) behind 3 at 10.00 s",
    ),
    "at two places": ([*FIVE, *kept(11, 6, more=-1)], "channel:lot send 5 of node b is at E:5 and at E:6"),
    "two at a place": ([*FIVE, *kept(11, 5, more=1)], "E:5 of lot is channel:lot send 5 of node b and"),
    "not kept, and there": (
        [*FIVE, Sent(10, mark(6)), Reached(10, mark(6), 1, 0, True), *took(11, 6, sid="ben1")],
        "channel:lot send 6 of node b was certainly not kept at 10.00 s, but is at E:6",
    ),
    "lost, it is said, and received": (
        [*FIVE, *ANN, *joined(), *missed(10, 2, 3), *took(10, 1, 2, 4, 5)],
        "was told at 10.00 s that 2 to 3 are lost, but received 2 at 10.00 s",
    ),
    "lost, it is said, though it was kept": (
        [*FIVE, *ANN, *joined(), *took(10, 1), *missed(10, 2, 3), *took(10, 4, 5)],
        "that 2 to 3 are lost, though 10 up to 5 were kept",
    ),
    "perhaps lost, it is said, though nothing can be": (
        [*FIVE, *ANN, *joined(), *took(10, 1, 2, 3), *missed(10, 4, None), *took(10, 4, 5)],
        "that something may be lost, though nothing can be",
    ),
    "a gap of another epoch": (
        [*FIVE, *ANN, *joined(), *took(10, 1, 2, 3, 4, 5), *missed(10, 1, 2, epoch="F")],
        "was told at 10.00 s of a gap in epoch F, in which it was not",
    ),
    "a gap without anything": (
        [*FIVE, *ANN, *joined(), *took(10, 1, 2, 3, 4, 5), *missed(10, 7, 6)],
        "was told of a gap from 7 to 6",
    ),
    "not recovered, and no gap": (
        [
            *(*FIVE, *ANN, *joined(), *took(10, 1, 2), *gone(11)),
            *(*back(12, 2, 5, recovered=False), *took(12, 3, 4, 5, sid="ann2")),
        ],
        "had not recovered, but was not told of a gap at 12.00 s",
    ),
    "not told of an epoch": (
        [
            Emptied(9),
            *ANN,
            *joined(),
            *took(10, 1),
            *WITNESS,
            *missed(11, 2, None, "ben1", "F"),
            *took(12, 2, sid="ben1"),
        ],
        "ann/one in lot is still in epoch E, though channel:lot send 2 of node b began F at 12.00 s",
    ),
    "received from outside": (
        [*FIVE, *ANN, *took(10, 1)],
        "received channel:lot send 1 of node b at 10.00 s, but was not",
    ),
    "received after it left": (
        [*FIVE, *ANN, *joined(), *took(10, 1), Left(11, "ann1", "lot"), *took(12, 2)],
        "received channel:lot send 2 of node b at 12.00 s, but was not in it",
    ),
}

ROOM = Mark("b", "channel:room", 1)


def in_room(sid: str = "ann1", node: str = "a", at: float = 1) -> list[AnyRecord]:
    """Return a join by the server."""
    return [Entered(at, node, sid, "room"), Entered(at + 0.1, node, sid, "room", heard=True)]


def to_room(sessions: int, *sids: str, at: float = 10) -> list[AnyRecord]:
    """Return a send to the room, whom it reached for certain, and who received it."""
    return [
        Sent(at, ROOM),
        *(Arrived(at + 0.1, sid, ROOM) for sid in sids),
        Reached(at + 0.2, ROOM, 2, sessions, True),
    ]


def quiet(*said: AnyRecord, held: str = "ann") -> list[AnyRecord]:
    """Return a quiet moment, at which these accounts are in the room at node a, and who is named in between."""
    seats = tuple(("room", account, "one", f"{account}1") for account in held.split())
    return [Seated(90, "a", seats), Seated(90, "b", ()), *said, Settled(91)]


def named(*accounts: str, at: float = 90.5, node: str = "b", certain: bool = True) -> Named:
    """Return who is in the room, as a node says."""
    return Named(at, at - 0.1, node, "room", tuple((account, "one") for account in accounts), certain)


ROOMS: dict[str, tuple[list[AnyRecord], str]] = {
    "a member not reached": (
        [*ANN, *in_room(), *to_room(0)],
        "channel:room send 1 of node b certainly reached 0 sessions at 10.20 s, but not connection ann1 of ann/one",
    ),
    "more reached than it says": ([*ANN, *in_room(), *to_room(0, "ann1")], "but arrived at 1"),
    "fewer there than it says": ([*ANN, *in_room(), *to_room(2, "ann1")], "there were only 1 that it can have reached"),
    "nobody there": (to_room(2), "there were only 0 that it can have reached"),
    "twice": ([*ANN, *in_room(), *to_room(1, "ann1", "ann1")], "arrived 2 times at connection ann1"),
    "not in order": (
        [*ANN, *in_room(), Arrived(9, "ann1", Mark("b", "channel:room", 2)), *to_room(1, "ann1")],
        "channel:room send 1 of node b arrived behind 2",
    ),
    "a ghost among the members": (
        [*ANN, *BEN, *in_room("ben1", "b"), *gone(30, "ben1"), Exited(30, "b", "ben1", "room"), named("ben", at=60)],
        "members() of room at node b, certain at 60.00 s, named ben/one, who was not there",
    ),
    "a member not named": (
        [*ANN, *in_room(), named(at=60)],
        "members() of room at node b, certain at 60.00 s, did not name ann/one, who was there",
    ),
    "a false count": (
        [*ANN, *in_room(), Counted(60, 59.9, "b", "room", 2, True)],
        "count() of room at node b, certain at 60.00 s, was 2, but there were 1 to 1",
    ),
    "a ghost at the end": (
        [*ANN, *in_room(), *quiet(named("ann", "ben"))],
        "at the quiet moment at 91.00 s node b sees ben/one in room, who is not there",
    ),
    "nobody seen at the end": ([*ANN, *in_room(), *quiet(named())], "node b does not see ann/one in room"),
    "a client that sees a ghost": (
        [*ANN, *in_room(), *quiet(Shown(90.5, "ann1", "room", (("ann", "one"), ("ben", "one"))))],
        "the client of ann1 sees ben/one in room, who is not there",
    ),
    "a count at the end": (
        [*ANN, *in_room(), *quiet(Counted(90.5, 90.4, "b", "room", 0, False))],
        "node b counts perhaps 0 in room, where 1 are",
    ),
    "not certain at the end": (
        [*ANN, *in_room(), *quiet(named("ann", certain=False))],
        "node b is not certain who is in",
    ),
}

BROKEN = HISTORIES | ROOMS


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_promise_is_found(what: str) -> None:
    records, sentence = BROKEN[what]
    found = findings([*records, LATER], LIMITS)
    assert any(sentence in finding for finding in found), found


KEPT: dict[str, list[AnyRecord]] = {
    "an epoch in which nobody has sent anything yet": [
        *(*FIVE, *ANN, *joined(), *took(10, 1, 2, 3, 4, 5), Emptied(11)),
        *(*missed(12, 1, None, epoch="F"), *missed(12, 1, None, "ben1", "F")),
    ],
    "all": [*FIVE, *ANN, *joined(), *took(10, 1, 2, 3, 4, 5)],
    "all since the join": [*FIVE, *ANN, *joined(offset=3), *took(10, 4, 5)],
    "the newest, and all behind": [*FIVE, *ANN, *joined(offset=3), *took(10, 2, 3, 4, 5)],
    "lost with the connection": [*FIVE, *ANN, *joined(), *took(10, 1, 2), *gone(11)],
    "the rest on another connection": [
        *(*FIVE, *ANN, *joined(), *took(10, 1, 2), *gone(11)),
        *(*back(12, 2, 4), *took(12, 3, 4, 5, sid="ann2")),
    ],
    "a gap between connections, beyond what is kept": [
        *(*kept(10, *range(1, 16)), *ANN, *joined(), *took(10, 1), *gone(10.1)),
        *(*back(12, 1, 15, recovered=False), *missed(12, 2, 5, "ann2"), *took(12, *range(6, 16), sid="ann2")),
    ],
    "a gap that is told ahead": [
        *(*kept(10, *range(1, 16)), *ANN, *joined(), *took(10, 1), *gone(10.1), *back(12, 1, 15, recovered=False)),
        *(*missed(12, 3, 5, "ann2"), *took(12, 2, *range(6, 16), sid="ann2")),
    ],
    "a new epoch": [
        *(*FIVE, Emptied(11), *kept(12, 4, epoch="F", more=5), *ANN, *joined(), *took(10, 1, 2, 3, 4, 5)),
        *(*missed(12, 4, None, epoch="F"), *took(12, 4, more=5)),
        *(*missed(12, 4, None, "ben1", "F"), *took(12, 4, sid="ben1", more=5)),
    ],
    "an epoch that is over, its rest lost": [
        *(*FIVE, Emptied(11), *kept(12, 6, epoch="F"), *ANN, *joined(), *took(10, 1, 2)),
        *(*missed(12, 6, None, epoch="F"), *took(12, 6)),
        *(*missed(12, 6, None, "ben1", "F"), *took(12, 6, sid="ben1")),
    ],
    "a position of an epoch before": [
        *(*FIVE, Emptied(11), *kept(12, 6, epoch="F"), *missed(12, 6, None, "ben1", "F"), *took(12, 6, sid="ben1")),
        *(*ANN, *joined(), *took(10, 1, 2, 3), *gone(11), *back(13, 3, 6, epoch="F"), *took(13, 4, 5, sid="ann2")),
        *(*missed(13, 6, None, "ann2", "F"), *took(13, 6, sid="ann2")),
    ],
    "not certain, and there": [*FIVE, Sent(10, mark(6)), Reached(15, mark(6), 1, 0, False), *took(11, 6, sid="ben1")],
    "not kept, and nowhere": [*FIVE, Sent(10, mark(6)), Reached(10, mark(6), 1, 0, True)],
    "a member again": [
        *(*FIVE, *ANN, *joined(), *took(10, 1), Left(11, "ann1", "lot"), *joined(12, offset=4), *took(12, 5)),
    ],
    "asked for again": [*FIVE, *ANN, *joined(), *took(10, 1, 2, 3, 4, 5), *joined(12, 5), *took(12, 4, 5)],
    "lost right before the end": [*FIVE, *kept(99, 6), *ANN, *joined(), *took(10, 1, 2, 3, 4, 5)],
    "a channel of the kinds without history": [
        *(*ANN, Joined(1, "ann1", "room"), *in_room(), *to_room(1)),
        *(Took(10.1, "ann1", "room", ROOM), Left(11, "ann1", "room")),
    ],
    "a room": [*ANN, *in_room(), *to_room(1, "ann1")],
    "a room that somebody has just joined": [*ANN, *in_room(at=9.5), *to_room(0)],
    "a room that somebody has just left": [*ANN, *in_room(), Exited(9.9, "a", "ann1", "room"), *to_room(0)],
    "a room whose other node is dead": [*ANN, *in_room(), *gone(4), *to_room(0)],
    "members": [*ANN, *in_room(), named("ann", at=60), Counted(60, 59.9, "b", "room", 1, True)],
    "members, not certain": [
        *ANN,
        *in_room(),
        named("ben", at=60, certain=False),
        Counted(60, 59.9, "b", "room", 5, False),
    ],
    "members that have just joined": [*ANN, *in_room(at=57), named(at=60)],
    "members that have just left": [*ANN, *in_room(), Exited(57, "a", "ann1", "room"), named("ann", at=60)],
    "members of a node that died in silence": [
        *ANN,
        *in_room(),
        Trouble(40, 55, "a"),
        Died(50, "a"),
        named("ann", at=58),
    ],
    "a quiet moment": [
        *(*ANN, *in_room()),
        *quiet(named("ann"), Shown(90.5, "ann1", "room", (("ann", "one"),)), Counted(90.5, 90.4, "b", "room", 1, True)),
    ],
}


@pytest.mark.parametrize("what", KEPT)
def test_what_was_not_promised_is_no_finding(what: str) -> None:
    assert findings([*KEPT[what], LATER], LIMITS) == []


def test_records_are_read_back_as_they_were_written() -> None:
    records = [record for records, _ in BROKEN.values() for record in records]
    assert decode_records(map(encode_record, records)) == records


async def test_witnesses_write_down_what_happens_in_rooms() -> None:
    log: list[AnyRecord] = []

    def create(shared: object) -> Primacron:
        server = Primacron(shared, namespace="shop")
        server.uuid(lambda request: "one")
        return server

    async with Cluster(create, nodes=2) as cluster:
        near, far = cluster.servers
        here, there = Witness(near, log.append), Witness(far, log.append)
        near.on("connection", lambda session: here.join(session, "room"))
        ann = await Client.connect(near, "ann")
        listening = ClientWitness(ann, "ann", "one", log.append)
        assert await there.send(far.channel("room")) == Reach(2, 1)
        assert await there.count("room") == Reach(2, 1)
        await listening.take_all()
        assert here.seated().seats == (("room", "ann", "one", ann.opened["sid"]),)
        await listening.close()
    assert findings(log) == []
    told = Counter(type(record).__name__ for record in log)
    assert told.pop("Entered") == 2
    once = "Began Opened Sent Reached Counted Arrived Seated Closed Exited Ended"
    assert told == Counter(once.split())
    assert [each.mark.channel for each in log if isinstance(each, Sent)] == ["room"]
