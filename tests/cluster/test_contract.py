"""The contract that every backend keeps; a new one is added to the fixture and passes all of this."""

from __future__ import annotations

import asyncio

import pytest

from primacron.errors import SessionTaken
from primacron.ids import AccountId, NodeId, SessionId, Sid
from tests.cluster.conftest import Backend

ANN, BOB = AccountId("ann"), AccountId("bob")
ONE, TWO = SessionId("one"), SessionId("two")
HERE, THERE, ELSEWHERE = NodeId("here"), NodeId("there"), NodeId("elsewhere")
DEADLINE = 5.0


class Inbox:
    """What one node receives."""

    def __init__(self) -> None:
        self._bodies: asyncio.Queue[bytes] = asyncio.Queue()

    def receive(self, body: bytes) -> None:
        self._bodies.put_nowait(body)

    async def next(self) -> bytes:
        async with asyncio.timeout(DEADLINE):
            return await self._bodies.get()

    @property
    def is_empty(self) -> bool:
        return self._bodies.empty()


async def test_a_claim_is_found_with_its_node_and_sid(backend: Backend) -> None:
    entry, replaced = await backend.registry.claim(ANN, ONE, HERE, Sid("s1"))
    assert replaced is None
    assert (entry.id, entry.node, entry.sid) == (ONE, HERE, Sid("s1"))
    assert await backend.registry.find(ANN, ONE) == entry


async def test_what_nobody_claimed_is_not_found(backend: Backend) -> None:
    await backend.registry.claim(ANN, ONE, HERE, Sid("s1"))
    assert await backend.registry.find(ANN, TWO) is None
    assert await backend.registry.find(BOB, ONE) is None
    assert await backend.registry.sessions(BOB) == []


async def test_a_later_claim_replaces_the_earlier_and_returns_it(backend: Backend) -> None:
    first, _ = await backend.registry.claim(ANN, ONE, HERE, Sid("s1"))
    second, replaced = await backend.registry.claim(ANN, ONE, THERE, Sid("s2"))
    assert replaced == first
    assert second.generation > first.generation
    assert await backend.registry.find(ANN, ONE) == second


async def test_a_claim_that_must_not_replace_is_refused(backend: Backend) -> None:
    first, _ = await backend.registry.claim(ANN, ONE, HERE, Sid("s1"))
    with pytest.raises(SessionTaken):
        await backend.registry.claim(ANN, ONE, THERE, Sid("s2"), replace=False)
    assert await backend.registry.find(ANN, ONE) == first
    await backend.registry.claim(ANN, TWO, THERE, Sid("s3"), replace=False)


async def test_a_release_removes_its_own_claim_only(backend: Backend) -> None:
    first, _ = await backend.registry.claim(ANN, ONE, HERE, Sid("s1"))
    second, _ = await backend.registry.claim(ANN, ONE, THERE, Sid("s2"))
    assert not await backend.registry.release(ANN, first)
    assert await backend.registry.find(ANN, ONE) == second
    assert await backend.registry.release(ANN, second)
    assert await backend.registry.find(ANN, ONE) is None
    assert not await backend.registry.release(ANN, second)


async def test_the_sessions_of_an_account_are_its_own(backend: Backend) -> None:
    entries = [(await backend.registry.claim(ANN, session, HERE, Sid(session)))[0] for session in (ONE, TWO)]
    await backend.registry.claim(BOB, ONE, HERE, Sid("s3"))
    assert sorted(await backend.registry.sessions(ANN), key=lambda each: each.id) == entries
    await backend.registry.release(ANN, entries[0])
    assert await backend.registry.sessions(ANN) == [entries[1]]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (("a::b", "c"), ("a", "b::c")),
        (("a", "b"), ("a", "b::pipe")),
        (("a@b", "c"), ("a", "b@c")),
        (("*", "*"), ("a", "b")),
    ],
)
async def test_names_with_separators_are_never_confused(
    backend: Backend, first: tuple[str, str], second: tuple[str, str]
) -> None:
    for account, session in (first, second):
        _, replaced = await backend.registry.claim(AccountId(account), SessionId(session), HERE, Sid(account + session))
        assert replaced is None
    for account, _ in (first, second):
        assert len(await backend.registry.sessions(AccountId(account))) == (2 if first[0] == second[0] else 1)


async def test_what_is_published_to_a_node_reaches_it_alone_and_in_order(backend: Backend) -> None:
    here, there = Inbox(), Inbox()
    await backend.bus.join(HERE, here.receive)
    await backend.bus.join(THERE, there.receive)
    for number in range(100):
        assert await backend.bus.publish(HERE, THERE, b"%d" % number) == 1
    assert [await there.next() for _ in range(100)] == [b"%d" % number for number in range(100)]
    assert here.is_empty


async def test_what_is_published_to_all_reaches_every_other_node(backend: Backend) -> None:
    inboxes = {node: Inbox() for node in (HERE, THERE, ELSEWHERE)}
    for node, inbox in inboxes.items():
        await backend.bus.join(node, inbox.receive)
    assert await backend.bus.publish(HERE, None, b"news") == 2
    assert [await inboxes[node].next() for node in (THERE, ELSEWHERE)] == [b"news"] * 2
    assert inboxes[HERE].is_empty


async def test_a_node_that_left_or_never_joined_receives_nothing(backend: Backend) -> None:
    here, there = Inbox(), Inbox()
    await backend.bus.join(HERE, here.receive)
    await backend.bus.join(THERE, there.receive)
    await backend.bus.leave(THERE)
    assert await backend.bus.publish(HERE, THERE, b"x") == 0
    assert await backend.bus.publish(HERE, ELSEWHERE, b"x") == 0
    assert await backend.bus.publish(HERE, None, b"x") == 0
    await backend.bus.publish(HERE, HERE, b"last")
    assert await here.next() == b"last"
    assert there.is_empty


async def test_publishing_does_not_run_the_receiver_inside_the_sender(backend: Backend) -> None:
    inbox = Inbox()
    await backend.bus.join(THERE, inbox.receive)
    await backend.bus.publish(HERE, THERE, b"x")
    assert inbox.is_empty
    assert await inbox.next() == b"x"
