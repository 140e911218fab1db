"""What was given up while Redis stood still is not done when it goes on."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass

import pytest
from hypothesis import given, strategies

from primacron import Primacron
from primacron.backends import choose_backend
from primacron.cluster.backend import Backend
from primacron.cluster.errors import BackendUnavailable
from primacron.cluster.link import State
from primacron.cluster.redis.clock import RedisClock
from primacron.cluster.redis.registry import SCRIPTS, RedisRegistry
from primacron.cluster.redis.sets import KEEP
from primacron.cluster.registry import Lease
from primacron.config import read_options
from primacron.entries import Entry
from primacron.ids import AccountId, NodeId, SessionId, Sid
from tests.cluster.fleet import Fleet, cluster_of, local, registration_of, until
from tests.support.hearing import Hearing
from tests.support.redis import RedisProcess, in_thread

ANN, ONE, TWO = AccountId("ann"), SessionId("one"), SessionId("two")
HERE = NodeId("here")
TIMEOUT = 0.3
KEY = b"k" * 32
NAME = (ANN, ONE)
KIND = "things"


@pytest.fixture(scope="module")
def process() -> Iterator[RedisProcess]:
    with RedisProcess() as process:
        for script in (*SCRIPTS, KEEP):  # else it would not know what it is to run when it goes on
            process.command("SCRIPT", "LOAD", script.text)
        yield process


@contextlib.asynccontextmanager
async def opened(process: RedisProcess, namespace: str) -> AsyncIterator[Backend]:
    """Open a backend whose node had a lease, which has ended."""
    open_backend = choose_backend(process.url, read_options({"namespace": namespace, "redis_timeout": TIMEOUT}))
    assert open_backend is not None
    backend = open_backend()
    backend.registry.kinds = (KIND,)
    await backend.registry.renew(HERE, Lease(), 0.001, [], KEY)
    try:
        yield backend
    finally:
        await backend.close()


def scripts_run(process: RedisProcess) -> int:
    """Return how many scripts Redis has run."""
    stats = process.command("INFO", "commandstats")
    return sum(map(int, re.findall(r"cmdstat_eval(?:sha)?:calls=(\d+)", stats)))


def stored(process: RedisProcess, namespace: str) -> dict[str, str]:
    """Return what Redis holds of a namespace, and whether it stays."""
    keys = process.command("KEYS", f"{namespace}:*").split()
    content = "return redis.sha1hex(redis.call('DUMP', KEYS[1])) .. ' ' .. redis.call('PTTL', KEYS[1])"
    return {key: process.command("EVAL", content, 1, key) for key in keys}


@dataclass(frozen=True)
class Late:
    """What is asked of a Redis that stands still; ``entry`` is one that is there."""

    ask: Callable[[Backend, Entry], Awaitable[object]]
    scripts: int = 1


def newer(entry: Entry, node: NodeId = HERE) -> Entry:
    return Entry(entry.id, node, entry.generation + 1, entry.sid)


WRITES: dict[str, Late] = {
    "renew": Late(lambda backend, _: backend.registry.renew(NodeId("there"), Lease(), 60, [b"n" * 32], KEY), 2),
    "claim": Late(lambda backend, _: backend.registry.claim(ANN, TWO, HERE, Sid("sid")), 2),
    "restore": Late(lambda backend, entry: backend.registry.restore([(ANN, newer(entry))]), 2),
    "release": Late(lambda backend, entry: backend.registry.release(ANN, entry), 2),
    "swap": Late(lambda backend, entry: backend.registry.swap(ANN, entry, newer(entry, NodeId("there"))), 2),
    "drop": Late(lambda backend, _: backend.registry.drop(HERE, [NAME])),
    "forget": Late(lambda backend, _: backend.registry.forget(HERE)),
    "place": Late(lambda backend, _: backend.registry.place(Sid("moved"), NAME, 60)),
    "add": Late(lambda backend, _: backend.sets.add(KIND, NAME, b"b"), 2),
    "keep": Late(lambda backend, _: backend.sets.keep(KIND, (ANN, TWO), [b"b"])),
    "remove": Late(lambda backend, _: backend.sets.remove(KIND, NAME, b"a")),
}


@pytest.mark.parametrize("what", WRITES)
async def test_what_was_given_up_is_not_done_later(what: str, process: RedisProcess, namespace: str) -> None:
    async with opened(process, namespace) as backend:
        entry = (await backend.registry.claim(ANN, ONE, HERE, Sid("first"))).entry
        assert entry is not None
        await backend.sets.add(KIND, NAME, b"a")
        before, run = await in_thread(stored, process, namespace), await in_thread(scripts_run, process)
        process.freeze()
        try:
            with pytest.raises(BackendUnavailable):
                await WRITES[what].ask(backend, entry)
        finally:
            process.thaw()
        async with asyncio.timeout(10):
            while await in_thread(scripts_run, process) < run + WRITES[what].scripts:
                await asyncio.sleep(0.01)
        assert await in_thread(stored, process, namespace) == before


async def test_a_late_claim_does_not_beat_a_session_that_came_after_it(process: RedisProcess, namespace: str) -> None:
    async with Fleet(lambda: process.url, namespace, [process]) as fleet:
        first, second = await fleet.started(2, redis_timeout=TIMEOUT)
        ended = Hearing(second, "disconnection")
        claims = await in_thread(scripts_run, process)
        process.freeze()
        try:
            gone = await fleet.join(first, "ann", "one")
            await gone.close()
            await fleet.join(second, "ann", "one")
        finally:
            process.thaw()
        entry = local(second, "ann", "one").entry
        await until(lambda: is_up(first) and is_up(second), "Redis is back")
        await until(lambda: not registration_of(second).unregistered, "the session is registered")
        # The commands that were given up have been read by now: Redis has run the renewals that came after them.
        assert await in_thread(scripts_run, process) > claims
        [found] = await cluster_of(first).registry.find(ANN, [ONE])
        assert found is not None
        assert (found.node, found.sid) == (entry.node, entry.sid)
        assert local(second, "ann", "one").connected
        assert ended.is_empty


def is_up(server: Primacron) -> bool:
    return cluster_of(server).link.state is State.UP


# Clocks


async def test_a_clock_that_was_set_costs_one_more_question(process: RedisProcess, namespace: str) -> None:
    async with opened(process, namespace) as backend:
        registry = backend.registry
        assert isinstance(registry, RedisRegistry)
        clock = registry._client._clocks["0"]
        for seconds in (3600, 0.5, -3600):
            shown = clock.read(0)
            assert shown is not None
            # As if Redis' clock had been set forward, or back, since it was last heard.
            clock.learn(0, 0, shown - round(seconds * 1000))
            claim = await registry.claim(ANN, ONE, HERE, Sid("first"))
            assert claim.entry is not None
        await registry.renew(HERE, Lease(), 1, [], KEY)
        assert abs(registry.generation(ANN) - redis_time(process)) < 1000


async def test_an_entry_of_a_nodes_own_making_has_the_time_of_redis(process: RedisProcess, namespace: str) -> None:
    async with opened(process, namespace) as backend:
        registry = backend.registry
        assert isinstance(registry, RedisRegistry)
        clock = registry._client._clocks["0"]
        shown = clock.read(0)
        assert shown is not None
        clock.learn(0, 0, shown + 3_600_000)  # its clock is an hour ahead of ours
        assert registry.generation(ANN) > time.time() * 1000 + 3_500_000


def redis_time(process: RedisProcess) -> int:
    seconds, microseconds = process.command("TIME").split()
    return int(seconds) * 1000 + int(microseconds) // 1000


def test_nothing_is_known_of_a_clock_before_it_was_heard() -> None:
    assert RedisClock().read(1.0) is None


DELAYS = strategies.lists(
    strategies.tuples(strategies.integers(0, 2000), strategies.integers(0, 2000)), min_size=1, max_size=20
)


@given(strategies.integers(-(10**9), 10**9), DELAYS)
def test_a_clock_is_never_read_as_later_than_it_is(distance: int, delays: list[tuple[int, int]]) -> None:
    clock, now = RedisClock(), 0
    for there, back in delays:
        sent, shown, now = now, now + there + distance, now + there + back
        clock.learn(sent / 1000, now / 1000, shown)
        read = clock.read(now / 1000)
        assert read is not None
        assert read <= now + distance
        assert read >= now + distance - there - back - 1


@given(strategies.integers(-(10**6), 10**6), DELAYS)
def test_a_clock_that_was_set_by_more_than_a_question_takes_is_known_at_once(
    step: int, delays: list[tuple[int, int]]
) -> None:
    clock, now, distance = RedisClock(), 0, 0
    for there, back in delays:
        distance += step if abs(step) > 4000 else 0
        sent, shown, now = now, now + there + distance, now + there + back
        clock.learn(sent / 1000, now / 1000, shown)
        read = clock.read(now / 1000)
        assert read is not None
        assert now + distance - there - back - 1 <= read <= now + distance
