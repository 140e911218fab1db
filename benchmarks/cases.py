"""What a case is, and what it has at hand to measure a contestant."""

from __future__ import annotations

import contextlib
import itertools
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

import msgspec

from benchmarks.contestants import CERTIFICATE, LOAD, Contestant
from benchmarks.processes import Cores, Server, cpu_seconds, free_port, machine_seconds, on_core, serving
from benchmarks.yardsticks import Phase, Report, run_load, write_options

#: Connections from which the load generator spreads over several source addresses: ports of the runs before may wait.
MANY: Final = 4_000


class Reading(msgspec.Struct, frozen=True, omit_defaults=True):
    """One figure of one round, and how busy the two sides and the rest of the machine were meanwhile."""

    value: float
    server_busy: float = 0.0
    client_busy: float = 0.0
    #: Cores that processes used which have nothing to do with it.
    others: float = 0.0
    #: Of which run it is, when a case was measured again: figures compare only within one.
    run: int = 0


@dataclass(frozen=True, slots=True)
class Row:
    """A figure that a case finds for each contestant."""

    key: str
    title: str
    unit: str
    digits: int = 1
    more_is_better: bool = False
    #: Whether a multiple of the floor's figure says something.
    against_floor: bool = True


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is measured: the whole, or a quick look that only shows that everything works."""

    seconds: float
    warmup: float
    divisor: int = 1

    def count(self, whole: int) -> int:
        """Return how many of something there are at this scale."""
        return max(whole // self.divisor, 2)


WHOLE: Final = Scale(seconds=1.0, warmup=0.7)  # code that is compiled while it runs needs the time
QUICK: Final = Scale(seconds=0.3, warmup=0.1, divisor=5)


@dataclass(frozen=True, slots=True)
class Measured:
    """What a run of the load generator found, and what the rest of the machine did meanwhile."""

    report: Report
    others: float
    #: How many processes each of the servers is.
    processes: tuple[int, ...] = (1,)

    def of_run(self, value: float) -> Reading:
        """Return a figure of the run proper."""
        return self._reading(value, self.report.run)

    def of_connecting(self, value: float) -> Reading:
        """Return a figure of the time in which the clients connected."""
        return self._reading(value, self.connect)

    @property
    def connect(self) -> Phase:
        """The time in which the clients connected."""
        assert self.report.connect is not None
        return self.report.connect

    def of_each_server(self, phase: Phase) -> list[float]:
        """Return the microseconds of each server for a message, or for a connection."""
        seconds = iter(phase.each_server_cpu_s)
        count = phase.messages or phase.connections
        return [sum(itertools.islice(seconds, each)) * 1e6 / count for each in self.processes]

    @property
    def bytes_per_connection(self) -> float:
        """How much memory of the server each connection took."""
        assert self.report.memory is not None
        return self.report.memory.bytes_per_connection

    def _reading(self, value: float, phase: Phase) -> Reading:
        return Reading(value, phase.server_busy, phase.client_busy, self.others)


#: Figures as they are found, by the key of their row.
Readings: TypeAlias = Iterator[tuple[str, Reading]]


class Bench:
    """Servers to start and load to put on them."""

    def __init__(self, cores: Cores, scale: Scale, load: Path = LOAD) -> None:
        self.cores = cores
        self.scale = scale
        #: The load generator.
        self.generator = load

    @contextlib.contextmanager
    def serve(self, contestant: Contestant, *, tls: bool = False) -> Iterator[Server]:
        """Run a contestant's server for the time of the block."""
        port = free_port()
        command = contestant.command(port)
        if tls:
            command.append(str(CERTIFICATE))
        with serving(command, port, self.cores.server) as server:
            yield server

    def load(self, servers: Server | Sequence[Server], contestant: Contestant, **options: object) -> Measured:
        """
        Put load on the first of the servers, and watch what all of them use of the machine.

        Options are those of the load generator; True stands for one without a value.
        The servers come to rest first: connections of the run before may have to be closed.
        """
        all_of_them = [servers] if isinstance(servers, Server) else servers
        for each in all_of_them:
            each.come_to_rest()
        families = [each.pids for each in all_of_them]
        pids = [*itertools.chain(*families)]
        line = [*contestant.speech.options, "--port", str(all_of_them[0].port), "--server", ",".join(map(str, pids))]
        line += ["--settle", "0.2", "--timeout", "60"]  # slow servers have pauses
        clients = options.get("clients")
        if isinstance(clients, int) and clients > MANY:
            options["sources"] = 4
        return self._run([*line, *write_options(**options)], pids, tuple(map(len, families)))

    def _run(self, line: Sequence[str], pids: list[int], processes: tuple[int, ...]) -> Measured:
        begin, machine, servers, own = time.monotonic(), machine_seconds(), cpu_seconds(pids), _children_seconds()
        with on_core(self.cores.load):
            report = run_load(self.generator, line)
        others = machine_seconds() - machine - (cpu_seconds(pids) - servers) - (_children_seconds() - own)
        return Measured(report, max(others, 0.0) / (time.monotonic() - begin), processes)


def _children_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@dataclass(frozen=True, slots=True)
class Case:
    """Something to measure, at one scale."""

    name: str
    title: str
    #: A sentence or two for who reads the figures.
    about: str
    contestants: tuple[Contestant, ...]
    rows: tuple[Row, ...]
    #: Starts what is needed, and finds a reading for each row, or for fewer if the contestant cannot do it.
    measure: Callable[[Bench, Contestant], Readings]
