"""Who is in a channel across servers: what members are told, what applications read, and what a move leaves unheard."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from primacron import Member, Primacron, Session
from primacron.cluster.items import PresenceDelta
from primacron.features.channels import Channels
from primacron.routing.targets import Target
from tests.channels.talkers import Talker
from tests.channels.watchers import Attendance, Watcher
from tests.cluster.fleet import Fleet, cluster_of, until
from tests.cluster.walker import Scene, Walker, hold_claims, is_frozen
from tests.support.hearing import DEADLINE

LOT = "lot:7"


def with_lots(servers: list[Primacron]) -> None:
    """Let clients join lots, whose members see each other's accounts and how often they came in."""
    times: dict[str, int] = {}

    def enter(session: Session, number: int) -> list[Any]:
        times[session.account] = times.get(session.account, 0) + 1
        return [session.account, times[session.account]]

    for server in servers:
        server.channels("lot:{number}", presence=True)(enter)


async def grounds(fleet: Fleet, count: int, **options: Any) -> tuple[list[Primacron], list[Any]]:
    servers = await fleet.started(count, **options)
    with_lots(servers)
    return servers, [await fleet.serve(server) for server in servers]


async def close(*watchers: Watcher) -> None:
    for watcher in watchers:
        await watcher.close()


async def test_members_of_all_servers_see_each_other(fleet: Fleet) -> None:
    servers, fronts = await grounds(fleet, 3)
    watchers: list[Watcher] = []
    names: list[str] = []
    for number in range(9):
        names.append(f"a{number}")
        watchers.append(await Watcher.join(fronts[number % 3], names[-1]))
        # Who joins is told of all, and the others of it.
        assert watchers[-1].seen.accounts == names
        assert watchers[-1].seen.is_certain
        for watcher in watchers:
            await watcher.until_sees(*names)
    await watchers[4].ask({"join": LOT, "id": 2})
    for watcher in watchers:
        await watcher.until(lambda watcher=watcher: watcher.seen.members["a4", "a4"] == ["a4", 2], "the update")  # type: ignore[misc]
    for server in servers:
        members = await server.channel(LOT).members()
        assert members.certain
        assert sorted(members, key=lambda member: member.account)[4] == Member("a4", "a4", ["a4", 2])
    await close(watchers.pop(8), watchers.pop(4), watchers.pop(0))
    for watcher in watchers:
        await watcher.until_sees("a1", "a2", "a3", "a5", "a6", "a7")
    await close(*watchers)


async def test_a_server_without_members_asks_those_that_have_some(fleet: Fleet) -> None:
    servers, fronts = await grounds(fleet, 3)
    watchers = [await Watcher.join(front, f"a{number}") for number, front in enumerate(fronts[:2])]
    members = await servers[2].channel(LOT).members()
    assert (sorted(member.account for member in members), members.certain) == (["a0", "a1"], True)
    assert LOT not in servers[2].node.feature(Channels).local
    empty = await servers[2].channel("lot:8").members()
    assert (list(empty), empty.certain) == ([], True)
    await close(*watchers)


async def test_a_channel_that_was_left_is_heard_of_again(fleet: Fleet) -> None:
    _, fronts = await grounds(fleet, 2)
    watcher = await Watcher.join(fronts[0], "watcher")
    for number in range(3):
        other = await Watcher.join(fronts[1], f"a{number}")
        assert other.seen.accounts == sorted(["watcher", f"a{number}"])
        await watcher.until_sees("watcher", f"a{number}")
        await other.close()
        await watcher.until_sees("watcher")
    await watcher.close()


async def test_changes_of_a_tick_are_one_message_to_the_other_servers(fleet: Fleet) -> None:
    servers, fronts = await grounds(fleet, 2)
    watcher = await Watcher.join(fronts[0], "watcher")
    others = [await Watcher.join(fronts[1], f"a{number}", "lot:8") for number in range(20)]
    for session in servers[1].node.hub.sessions:
        session.join(LOT)
    await watcher.until_sees("watcher", *(f"a{number}" for number in range(20)))
    assert len([message for message in watcher.seen.messages if "presence" in message]) <= 2
    await close(watcher, *others)


@pytest.mark.parametrize("backend", ["memory", "redis"])
async def test_a_room_that_a_thousand_join_at_once_is_told_in_one_message(fleet: Fleet) -> None:
    servers, fronts = await grounds(fleet, 2)
    watchers = [await Watcher.join(front, f"w{number}") for number, front in enumerate(fronts)]
    for watcher in watchers:
        await watcher.until_sees("w0", "w1")
        watcher.seen.messages.clear()
    for number in range(998):
        await fleet.join(servers[1], f"a{number}")
    sent: list[object] = []
    by_topic = cluster_of(servers[1]).outgoing_by_topic
    publish = by_topic._publish
    by_topic._publish = lambda topic, batch: (sent.extend(batch), publish(topic, batch))  # type: ignore[func-returns-value, method-assign, assignment]
    for session in servers[1].node.hub.sessions:
        session.join(LOT)
    for watcher in watchers:
        await watcher.until(lambda watcher=watcher: watcher.seen.count == 1_000, "a thousand")  # type: ignore[misc]
        assert len(watcher.seen.messages) == 1
    assert len(sent) == 1
    await close(*watchers)


@pytest.mark.parametrize("backend", ["memory"])
async def test_members_that_neither_come_nor_go_cost_no_message(fleet: Fleet) -> None:
    servers, fronts = await grounds(fleet, 2, lease=1)
    watchers = [await Watcher.join(front, f"w{number}") for number, front in enumerate(fronts)]
    for watcher in watchers:
        await watcher.until_sees("w0", "w1")
    sent: list[object] = []
    renewals = 0
    for server in servers:
        cluster = cluster_of(server)
        cluster.send_by_topic = lambda topic, dispatch: sent.append(dispatch)  # type: ignore[method-assign]
        cluster.outgoing.send = lambda node, dispatch: sent.append(dispatch)  # type: ignore[method-assign, assignment]
        presence = server.node.feature(Channels).presences._presence
        await until(lambda presence=presence: presence.due is None, "the end of all timers")  # type: ignore[misc]

    def renewed() -> None:
        nonlocal renewals
        renewals += 1

    cluster_of(servers[0]).on_leases.append(renewed)
    await until(lambda: renewals >= 5, "some time to pass")
    assert sent == []
    await close(*watchers)


@pytest.mark.parametrize("backend", ["memory", "redis"])
async def test_a_server_that_does_not_answer_makes_joins_wait_a_second_at_most(fleet: Fleet) -> None:
    servers, fronts = await grounds(fleet, 3)
    first = await Watcher.join(fronts[0], "first")
    handlers = cluster_of(servers[0])._handlers
    take = handlers[PresenceDelta]
    handlers[PresenceDelta] = lambda item, sender: None
    loop = asyncio.get_running_loop()
    began = loop.time()
    second = await Watcher.join(fronts[1], "second")
    assert loop.time() - began >= 1.0
    assert not second.seen.is_certain
    # It is asked directly then.
    await second.until_sees("first", "second")
    members = await servers[2].channel(LOT).members()
    assert not members.certain
    assert [member.account for member in members] == ["second"]
    handlers[PresenceDelta] = take
    third = await Watcher.join(fronts[2], "third")
    assert third.seen.is_certain
    await second.ask({"join": LOT, "id": 2})  # which shows the first one that it has missed something
    await first.until_sees("first", "second", "third")
    await close(first, second, third)


@pytest.mark.parametrize("backend", ["memory", "redis"])
async def test_a_message_that_was_lost_is_noticed_by_the_next(fleet: Fleet) -> None:
    servers, fronts = await grounds(fleet, 2)
    watcher = await Watcher.join(fronts[0], "watcher")
    others = [await Watcher.join(fronts[1], "a0")]
    await watcher.until_sees("watcher", "a0")
    handlers = cluster_of(servers[0])._handlers
    take = handlers[PresenceDelta]
    lost: list[object] = []
    handlers[PresenceDelta] = lambda item, sender: lost.append(item)
    others.append(await Watcher.join(fronts[1], "a1"))
    await until(lambda: lost, "what is lost")
    handlers[PresenceDelta] = take
    others.append(await Watcher.join(fronts[1], "a2"))
    await watcher.until_sees("watcher", "a0", "a1", "a2")
    await close(watcher, *others)


@pytest.mark.parametrize("backend", ["memory"])
async def test_members_are_told_as_a_number_when_there_are_many_on_all_servers_together(fleet: Fleet) -> None:
    _, fronts = await grounds(fleet, 2, presence_limit=5)
    watchers = [await Watcher.join(fronts[number % 2], f"a{number}") for number in range(6)]
    for watcher in watchers:
        await watcher.until(lambda watcher=watcher: watcher.seen.members is None, "a number")  # type: ignore[misc]
        assert watcher.seen.count == 6
    await close(*watchers[4:])
    for watcher in watchers[:4]:
        await watcher.until(lambda watcher=watcher: watcher.seen.members is not None, "names")  # type: ignore[misc]
        assert watcher.seen.accounts == ["a0", "a1", "a2", "a3"]
    await close(*watchers[:4])


async def test_any_server_lets_sessions_join_with_info(fleet: Fleet) -> None:
    servers, fronts = await grounds(fleet, 2)
    watcher = await Watcher.join(fronts[0], "watcher")
    other = Watcher(await Talker.connect(fronts[0], "ann", "&session=a&resume=1"), LOT)
    targets: list[Target[Any]] = [servers[1].session("ann", "a"), servers[1].account("ann"), servers[1].channel(LOT)]
    for number, target in enumerate(targets):
        await target.join(LOT, {"seat": [number]})
        for each in (watcher, other):
            await each.until(lambda each=each: each.seen.members.get(("ann", "a")) == {"seat": [number]}, "the info")  # type: ignore[misc]  # noqa: B023
        members = await servers[1].channel(LOT).members()
        assert Member("ann", "a", {"seat": [number]}) in members
    await close(watcher, other)


# Moves


@pytest.fixture
async def scene(fleet: Fleet) -> AsyncIterator[Scene]:
    servers = await fleet.started(3)
    with_lots(servers)
    scene = Scene(fleet, servers, [await fleet.serve(server) for server in servers])
    yield scene
    await scene.close()


async def joined(walker: Walker) -> Attendance:
    """Let a walker join."""
    seen = Attendance(LOT)
    await walker.send({"join": LOT, "id": 1})
    seen.take(await walker.receive())
    return seen


async def take_until(walker: Walker, seen: Attendance, *accounts: str) -> None:
    """Take what a walker receives until it sees these members."""
    while seen.accounts != sorted(accounts):
        seen.take(await walker.receive())


async def test_nobody_hears_a_move(scene: Scene) -> None:
    watchers = [await Watcher.join(front, f"w{number}") for number, front in enumerate(scene.fronts)]
    walker = await scene.walker()
    seen = await joined(walker)
    everyone = ["ann", "w0", "w1", "w2"]
    for watcher in watchers:
        await watcher.until_sees(*everyone)
    changes = [[*watcher.seen.changes] for watcher in watchers]
    await walker.upgrade()
    moved = await scene.arrival()
    # What is told behind the move has not been overtaken by anything.
    late = await Watcher.join(scene.fronts[2], "late")
    assert late.seen.accounts == sorted(["late", *everyone])
    for watcher, before in zip(watchers, changes, strict=True):
        await watcher.until_sees("late", *everyone)
        assert watcher.seen.changes == [*before, "join late"]
    # It has not missed anything, and so is not told who is there.
    await take_until(walker, seen, "late", *everyone)
    assert [[*message] for message in seen.messages] == [["channel", "presence"]]
    await moved.leave(LOT)
    for watcher in watchers:
        await watcher.until_sees("late", "w0", "w1", "w2")
        assert watcher.seen.changes[-1] == "leave ann"
    await close(late, *watchers)


async def test_who_was_the_first_member_on_both_servers_is_not_heard_moving(scene: Scene) -> None:
    watcher = await Watcher.join(scene.fronts[2], "watcher")
    walker = await scene.walker()
    await joined(walker)
    await watcher.until_sees("ann", "watcher")
    await walker.upgrade()
    await scene.arrival()
    members = await scene.source.channel(LOT).members()
    assert sorted(member.account for member in members) == ["ann", "watcher"]
    await walker.close()
    scene.walkers.clear()
    await watcher.until_sees("watcher")
    assert watcher.seen.changes == ["join ann", "leave ann"]
    await watcher.close()


def parts_with(server: Primacron, name: tuple[str, str]) -> int:
    """Return how many servers have a member, as far as this one knows."""
    roster = server.node.feature(Channels).presences._presence._rosters[LOT]
    return sum(name in part.members for part in roster.parts.values())


@pytest.mark.parametrize("number", [0, 1], ids=["at the same server", "at another"])
async def test_nobody_hears_a_client_that_connects_again_before_its_end_is_noticed(fleet: Fleet, number: int) -> None:
    servers, fronts = await grounds(fleet, 2)
    watchers = [await Watcher.join(front, f"w{each}") for each, front in enumerate(fronts)]
    first = await Watcher.join(fronts[0], "ann")
    for watcher in watchers:
        await watcher.until_sees("ann", "w0", "w1")
    again = await Watcher.join(fronts[number], "ann")
    await until(lambda: len(servers[0].node.hub.sessions) == 2 - number, "the end of the earlier")
    assert again.seen.accounts == ["ann", "w0", "w1"]
    for watcher in watchers:
        await watcher.until(lambda watcher=watcher: watcher.seen.members["ann", "ann"] == ["ann", 2], "the update")  # type: ignore[misc]
    for server in servers:  # until then who leaves is the later, and the earlier is seen again for a moment
        await until(lambda server=server: parts_with(server, ("ann", "ann")) == 1, "the leave of the earlier")  # type: ignore[misc]
    await again.close()
    for watcher in watchers:
        await watcher.until_sees("w0", "w1")
        assert [change for change in watcher.seen.changes if "ann" in change] == ["join ann", "update ann", "leave ann"]
    await close(*watchers)
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, AssertionError):
        await first.close()


async def test_who_has_missed_changes_while_it_moved_is_told_who_is_there(scene: Scene) -> None:
    watcher = await Watcher.join(scene.fronts[2], "watcher")
    walker = await scene.walker()
    seen = await joined(walker)
    assert seen.accounts == ["ann", "watcher"]
    go_on = hold_claims(scene.destination)
    moving = asyncio.create_task(walker.upgrade())
    await until(lambda: is_frozen(scene.source), "the freeze")
    late = await Watcher.join(scene.fronts[2], "late")
    await watcher.close()
    async with asyncio.timeout(DEADLINE):
        while sorted(each.account for each in await scene.destination.channel(LOT).members()) != ["ann", "late"]:
            await asyncio.sleep(0.01)
    go_on.set()
    await moving
    await scene.arrival()
    await take_until(walker, seen, "ann", "late")
    # A change that the destination heard of later follows.
    assert [*seen.messages[0]] == ["channel", "members"]
    await late.close()
    await take_until(walker, seen, "ann")


async def test_what_is_known_of_members_moves_with_the_session_more_than_once(scene: Scene) -> None:
    walker = await scene.walker()
    seen = await joined(walker)
    await walker.upgrade()
    moved = await scene.arrival()
    memberships = moved.features["channels"]
    membership = memberships.channels[LOT]
    assert membership is not None
    await until(lambda: membership.seen.digest, "the digest")
    other = await Watcher.join(scene.fronts[0], "other")
    await take_until(walker, seen, "ann", "other")
    presences = [server.node.feature(Channels).presences._presence for server in scene.servers[:2]]
    assert membership.seen.digest == presences[0].digest(LOT) == presences[1].digest(LOT) != 0
    await other.close()
