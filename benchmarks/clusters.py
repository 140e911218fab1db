"""Several servers of one contestant, with a Redis of their own between them."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from benchmarks.cases import Bench
from benchmarks.contestants import Contestant
from benchmarks.processes import Server, free_port, serving
from benchmarks.yardsticks import YardstickFailed

#: redis-py would send a command again whose connection is lost: one that restarts Redis, too.
NEVER: Final = Retry(NoBackoff(), 0)
#: Seconds to wait for something to be so.
DEADLINE: Final = 60.0
#: Commands that this module itself runs.
QUESTIONS: Final = frozenset({"cmdstat_info", "cmdstat_dbsize", "cmdstat_flushall", "cmdstat_client|setinfo"})


@dataclass(frozen=True, slots=True)
class Cluster:
    """The nodes, and their Redis."""

    nodes: list[Server]
    redis: Server
    ledger: Ledger

    @property
    def servers(self) -> list[Server]:
        """All processes, Redis last."""
        return [*self.nodes, self.redis]

    def others(self) -> str:
        """Return the ports of all nodes but the first, in the load generator's format."""
        return ",".join(str(node.port) for node in self.nodes[1:])


class Ledger:
    """Redis' own statistics."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def count_commands(self) -> int:
        """Return how many commands it has run, including those inside scripts, excluding those of this module."""
        of_each = self._client.info("commandstats")
        return sum(stats["calls"] for name, stats in of_each.items() if name not in QUESTIONS)

    def count_keys(self) -> int:
        """Return how many keys it holds."""
        return int(self._client.dbsize())

    def count_bytes(self) -> int:
        """Return the memory that its data takes, in bytes."""
        memory = self._client.info("memory")
        return int(memory["used_memory"]) - int(memory["mem_clients_normal"])

    def commands_per_second(self, seconds: float) -> float:
        """Return the rate of commands, measured over ``seconds``."""
        before, began = self.count_commands(), time.monotonic()
        time.sleep(seconds)
        return (self.count_commands() - before) / (time.monotonic() - began)

    def forget_all(self) -> None:
        """Delete everything."""
        self._client.flushall()

    def restart(self) -> None:
        """Restart Redis, in the same process; it has forgotten everything."""
        with contextlib.suppress(redis.ConnectionError):
            self._client.execute_command("DEBUG", "RESTART")

    def count_subscribed(self) -> int:
        """Return how many channels of Redis somebody has subscribed to; none while it restarts."""
        try:
            return int(self._client.info("stats")["pubsub_channels"])
        except redis.ConnectionError:
            return 0

    def wait_for_keys(self, count: int) -> None:
        """
        Wait until it holds this many keys.

        Raises:
            YardstickFailed: if it does not in time.

        """
        wait_until(lambda: self.count_keys() >= count, f"Redis holds {count} keys")

    def wait_for_subscribed(self, count: int) -> None:
        """
        Wait until this many channels are subscribed to.

        Raises:
            YardstickFailed: if they are not in time.

        """
        wait_until(lambda: self.count_subscribed() >= count, f"{count} channels are subscribed to")


def wait_until(is_so: Callable[[], bool], what: str) -> None:
    """
    Wait until something is so.

    Raises:
        YardstickFailed: if it is not in time.

    """
    deadline = time.monotonic() + DEADLINE
    while not is_so():
        if time.monotonic() > deadline:
            raise YardstickFailed(f"after {DEADLINE:g} s it is still not so that {what}")
        time.sleep(0.01)


@contextlib.contextmanager
def serve_cluster(bench: Bench, contestant: Contestant, count: int, *options: str) -> Iterator[Cluster]:
    """Run a Redis with some options on the load's core, and ``count`` servers of a contestant on the other."""
    with contextlib.ExitStack() as stack:
        port = free_port()
        line = [
            shutil.which("redis-server") or "redis-server",  # by its path, or it could not restart itself
            "--port",
            str(port),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "no",
            *options,
        ]
        store = stack.enter_context(serving(line, port, bench.cores.load))
        nodes = []
        for _ in range(count):
            port = free_port()
            command = [*contestant.command(port), str(store.port)]
            nodes.append(stack.enter_context(serving(command, port, bench.cores.server)))
        client = stack.enter_context(redis.Redis("127.0.0.1", store.port, retry=NEVER))
        yield Cluster(nodes, store, Ledger(client))
