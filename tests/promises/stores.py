"""The Redis of a scene, alone, as a Cluster, or behind Sentinel, and what can happen to it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, Final

from tests.support.redis import DEADLINE, RedisProcess, SentinelSetup, redis_cluster, redis_sentinel


class Store:
    """Processes of Redis; ``place`` is how a server is told of them."""

    def __init__(self, processes: list[RedisProcess], place: dict[str, Any]) -> None:
        self.processes = processes
        self.place = place

    @property
    def primaries(self) -> list[RedisProcess]:
        """Those that have the data."""
        return self.processes

    def command(self, *parts: object) -> list[str]:
        """Let each primary that can be asked do something; return what they answer."""
        answers = []
        for process in self.primaries:
            with contextlib.suppress(TimeoutError):
                answers.append(process.command(*parts))
        return answers

    def freeze(self) -> None:
        """Stop all where they are."""
        for process in self.primaries:
            process.freeze()

    def thaw(self) -> None:
        """Let all go on."""
        for process in self.primaries:
            process.thaw()

    def kill(self) -> None:
        """Kill all; what they had is lost."""
        for process in self.primaries:
            process.kill()

    def start(self) -> None:
        """Start all again, empty, and wait until they are of use."""
        for process in self.primaries:
            process.start()
        deadline = time.monotonic() + DEADLINE
        while not all("cluster_state:fail" not in answer for answer in self.command("CLUSTER", "INFO")):
            assert time.monotonic() < deadline, "the Redis Cluster did not form again"
            time.sleep(0.05)


class SentinelStore(Store):
    """One whose primary is replaced when it fails."""

    def __init__(self, setup: SentinelSetup) -> None:
        place = {"sentinels": [each.port for each in setup.sentinels], "service": setup.service}
        super().__init__([setup.primary, setup.replica], place)
        self._setup = setup

    @property
    def primaries(self) -> list[RedisProcess]:
        """The one that the sentinels name."""
        current = self._setup.current()
        return [process for process in self.processes if process.port == current]

    def fail_over(self) -> Callable[[], None]:
        """Kill the primary, and wait until another one is; return what brings the old one back."""
        [old] = self.primaries
        [new] = [process for process in self.processes if process is not old]
        old.kill()
        deadline = time.monotonic() + DEADLINE
        while self._setup.current() != new.port or "role:master" not in new.command("INFO", "replication"):
            assert time.monotonic() < deadline, "the sentinels do not fail over"
            time.sleep(0.05)
        return lambda: self._bring_back(old, new)

    @staticmethod
    def _bring_back(old: RedisProcess, new: RedisProcess) -> None:
        old.start()
        old.command("REPLICAOF", "127.0.0.1", new.port)
        deadline = time.monotonic() + DEADLINE
        while "master_link_status:up" not in old.command("INFO", "replication"):
            assert time.monotonic() < deadline, "the old primary does not follow"
            time.sleep(0.05)


@contextlib.contextmanager
def _alone() -> Iterator[Store]:
    with RedisProcess() as process:
        yield Store([process], {"url": process.url})


@contextlib.contextmanager
def _clustered() -> Iterator[Store]:
    with redis_cluster() as processes:
        yield Store(processes, {"cluster": [process.port for process in processes]})


@contextlib.contextmanager
def _behind_sentinel() -> Iterator[Store]:
    with redis_sentinel() as setup:
        yield SentinelStore(setup)


#: What opens each kind of store.
STORES: Final[dict[str, Callable[[], AbstractContextManager[Store]]]] = {
    "redis": _alone,
    "redis-cluster": _clustered,
    "redis-sentinel": _behind_sentinel,
}
