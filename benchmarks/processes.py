"""Servers under test: each on a core of its own, ready when it is measured, and gone afterwards."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent
#: Seconds until a server has to listen, or to have ended.
DEADLINE: Final = 30.0
#: A server that used less of its core than this, for this long, has nothing to do.
QUIET: Final = 0.05
QUIET_FOR: Final = 0.1
#: With the bits of a process's id before it, the clock of its CPU time in nanoseconds: clock_getcpuclockid(3).
CPU_CLOCK: Final = 2
_TICKS: Final = os.sysconf("SC_CLK_TCK")


class ServerFailed(Exception):
    """A server did not start, or did not come to rest; the text is what it printed."""


@dataclass(frozen=True, slots=True)
class Cores:
    """Where the server runs and where the load, which must not be the same core."""

    server: int
    load: int

    @classmethod
    def choose(cls) -> Cores:
        """
        Take two cores of those that this process may use.

        Raises:
            SystemExit: if there is only one.

        """
        allowed = sorted(os.sched_getaffinity(0))
        if len(allowed) < 2:
            raise SystemExit("The benchmarks need two cores: one for the server, one for the load.")
        return cls(allowed[0], allowed[-1])


@contextlib.contextmanager
def on_core(core: int) -> Iterator[None]:
    """Let the processes that are started meanwhile run on one core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def raise_limits(files: int) -> None:
    """
    Let this process, and those that it starts, open as many files as the system allows.

    Raises:
        SystemExit: if that is less than what is needed.

    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < files:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if hard < files:
            raise SystemExit(
                f"The benchmarks need {files} open files a process, the limit is {hard}: `ulimit -Hn {files}`"
            )
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def free_port() -> int:
    """Return a port that nobody uses now, of those that the system gives to nobody who does not ask for them."""
    first, _ = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    while True:
        port = random.randrange(1_025, first)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


class Server:
    """A server that runs."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self._process = process
        self.port = port

    @property
    def pids(self) -> list[int]:
        """The process and those that it started."""
        return family(self._process.pid)

    def come_to_rest(self) -> None:
        """
        Wait until it has nothing to do.

        Raises:
            ServerFailed: if it is still busy at the deadline.

        """
        deadline = time.monotonic() + DEADLINE
        while time.monotonic() < deadline:
            before = cpu_seconds(self.pids)
            time.sleep(QUIET_FOR)
            if cpu_seconds(self.pids) - before <= QUIET * QUIET_FOR:
                return
        raise ServerFailed(f"{self._process.args!r} is busy although nobody asks for anything")


@contextlib.contextmanager
def serving(command: list[str], port: int, core: int) -> Iterator[Server]:
    """
    Run a server on a core for the time of the block.

    Raises:
        ServerFailed: if it does not listen in time, or has ended before the block does.

    """
    with tempfile.TemporaryFile() as output:
        with on_core(core):
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, "NODE_ENV": "production"},
                start_new_session=True,
            )
        try:
            server = Server(process, port)
            _wait_until_listening(process, port)
            server.come_to_rest()
            yield server
            if process.poll() is not None:
                raise ServerFailed(f"{command} ended with {process.returncode}")
        except ServerFailed as error:
            output.seek(0)
            raise ServerFailed(f"{error}\n{output.read().decode(errors='replace')}".strip()) from None
        finally:
            _end(process)


def _wait_until_listening(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise ServerFailed(f"{process.args!r} ended with {process.returncode}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    raise ServerFailed(f"{process.args!r} does not listen on {port} after {DEADLINE:g} s")


def _end(process: subprocess.Popen[bytes]) -> None:
    """End it and all that it started; what is measured is over, so it may be ended hard."""
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(2)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(DEADLINE)


def family(pid: int) -> list[int]:
    """Return a process and its descendants."""
    found = [pid]
    for each in found:
        for children in Path(f"/proc/{each}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                found += map(int, children.read_text().split())
    return found


def cpu_seconds(pids: list[int]) -> float:
    """Return what processes have used of the processors, by the clock that each of them has."""
    total = 0.0
    for pid in pids:
        with contextlib.suppress(OSError):
            total += time.clock_gettime(~pid << 3 | CPU_CLOCK)
    return total


def machine_seconds() -> float:
    """Return what all processes of the machine together have used of the processors."""
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    user, nice, system, _, _, irq, softirq, steal = map(int, fields[:8])
    return (user + nice + system + irq + softirq + steal) / _TICKS


def python(module: str, *arguments: object) -> list[str]:
    """Return the command that runs a module with this Python."""
    return [sys.executable, "-m", module, *map(str, arguments)]
