"""The definition of a case, and the bench that measures contestants for it."""

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

#: Above this many connections the load generator uses several source addresses: ports may be in TIME_WAIT.
MANY: Final = 4_000


class Reading(msgspec.Struct, frozen=True, omit_defaults=True):
    """One figure of one round, and how busy both sides and the rest of the machine were during it."""

    value: float
    server_busy: float = 0.0
    client_busy: float = 0.0
    #: Cores used by unrelated processes.
    others: float = 0.0
    #: The run it belongs to, if a case was measured again: figures compare only within one.
    run: int = 0


@dataclass(frozen=True, slots=True)
class Row:
    """A figure that a case yields for each contestant."""

    key: str
    title: str
    unit: str
    digits: int = 1
    more_is_better: bool = False
    #: Whether a multiple of the floor's figure is meaningful.
    against_floor: bool = True


@dataclass(frozen=True, slots=True)
class Scale:
    """How much to measure: everything, or a quick run that only proves that everything works."""

    seconds: float
    warmup: float
    divisor: int = 1
    #: Clients that drop, if they are to be more or fewer.
    dropped: int | None = None

    def count(self, whole: int) -> int:
        """Scale a number of clients, connections or the like."""
        return max(whole // self.divisor, 2)


WHOLE: Final = Scale(seconds=1.0, warmup=0.7)  # warm-up is for JIT compilers
QUICK: Final = Scale(seconds=0.3, warmup=0.1, divisor=5)


@dataclass(frozen=True, slots=True)
class Measured:
    """The load generator's report, and what the rest of the machine did meanwhile."""

    report: Report
    others: float
    #: Number of processes of each server.
    processes: tuple[int, ...] = (1,)

    def of_run(self, value: float) -> Reading:
        """Return a figure of the run itself."""
        return self._reading(value, self.report.run)

    def of_connecting(self, value: float) -> Reading:
        """Return a figure of the phase in which the clients connected."""
        return self._reading(value, self.connect)

    @property
    def connect(self) -> Phase:
        """The phase in which the clients connected."""
        assert self.report.connect is not None
        return self.report.connect

    def of_each_server(self, phase: Phase) -> list[float]:
        """Return the microseconds that each server spent per message, or per connection."""
        seconds = iter(phase.each_server_cpu_s)
        count = phase.messages or phase.connections
        return [sum(itertools.islice(seconds, each)) * 1e6 / count for each in self.processes]

    @property
    def bytes_per_connection(self) -> float:
        """The server's memory per connection, in bytes."""
        assert self.report.memory is not None
        return self.report.memory.bytes_per_connection

    def _reading(self, value: float, phase: Phase) -> Reading:
        return Reading(value, phase.server_busy, phase.client_busy, self.others)


#: Readings as they are taken, by the key of their row.
Readings: TypeAlias = Iterator[tuple[str, Reading]]


class Bench:
    """Starts servers and puts load on them."""

    def __init__(self, cores: Cores, scale: Scale, load: Path = LOAD) -> None:
        self.cores = cores
        self.scale = scale
        #: The load generator's executable.
        self.generator = load

    @contextlib.contextmanager
    def serve(self, contestant: Contestant, *, tls: bool = False) -> Iterator[Server]:
        """Run a contestant's server for the duration of the block."""
        port = free_port()
        command = contestant.command(port)
        if tls:
            command.append(str(CERTIFICATE))
        with serving(command, port, self.cores.server) as server:
            yield server

    def load(self, servers: Server | Sequence[Server], contestant: Contestant, **options: object) -> Measured:
        """
        Put load on the first server, and record what all of them use.

        Options are those of the load generator; True marks a flag without a value. It
        begins once the servers are idle: they may still be closing earlier connections.
        """
        all_of_them = [servers] if isinstance(servers, Server) else servers
        for each in all_of_them:
            each.come_to_rest()
        families = [each.pids for each in all_of_them]
        pids = [*itertools.chain(*families)]
        line = [*contestant.speech.options, "--port", str(all_of_them[0].port), "--server", ",".join(map(str, pids))]
        line += ["--settle", "0.2", "--timeout", "60"]  # slow servers pause
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


def load_seconds() -> float:
    """Return the CPU time of this process, and of those that it has seen end."""
    return time.process_time() + _children_seconds()


@dataclass(frozen=True, slots=True)
class Case:
    """Something to measure, at one scale."""

    name: str
    title: str
    #: A sentence or two for the reader of the figures.
    about: str
    contestants: tuple[Contestant, ...]
    rows: tuple[Row, ...]
    #: Starts what it needs, and yields a reading for each row, or for fewer if the contestant cannot do them.
    measure: Callable[[Bench, Contestant], Readings]
