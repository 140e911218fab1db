"""Several servers of one contestant, with a Redis of their own between them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import redis

from benchmarks.cases import Bench
from benchmarks.contestants import Contestant
from benchmarks.processes import Server, free_port, serving
from benchmarks.yardsticks import YardstickFailed

#: Seconds to wait for keys in Redis.
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

    def wait_for_keys(self, count: int) -> None:
        """
        Wait until it holds this many keys.

        Raises:
            YardstickFailed: if it does not in time.

        """
        deadline = time.monotonic() + DEADLINE
        while self.count_keys() < count:
            if time.monotonic() > deadline:
                raise YardstickFailed(f"Redis holds {self.count_keys()} keys after {DEADLINE:g} s, not {count}")
            time.sleep(0.01)


@contextlib.contextmanager
def serve_cluster(bench: Bench, contestant: Contestant, count: int) -> Iterator[Cluster]:
    """Run a Redis on the load's core, and ``count`` servers of a contestant on the other."""
    with contextlib.ExitStack() as stack:
        port = free_port()
        line = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        store = stack.enter_context(serving(line, port, bench.cores.load))
        nodes = []
        for _ in range(count):
            port = free_port()
            command = [*contestant.command(port), str(store.port)]
            nodes.append(stack.enter_context(serving(command, port, bench.cores.server)))
        client = stack.enter_context(redis.Redis("127.0.0.1", store.port))
        yield Cluster(nodes, store, Ledger(client))
