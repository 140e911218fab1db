"""Servers under test: each on its own core, idle before it is measured, terminated afterwards."""

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
#: Seconds for a server to listen, or to terminate.
DEADLINE: Final = 30.0
#: A server is idle when it uses less than this share of its core for this many seconds.
QUIET: Final = 0.05
QUIET_FOR: Final = 0.1
#: Combined with a process id, the clock of its CPU time in nanoseconds: clock_getcpuclockid(3).
CPU_CLOCK: Final = 2
_TICKS: Final = os.sysconf("SC_CLK_TCK")


class ServerFailed(Exception):
    """A server did not start, or did not become idle; the message is what it printed."""


@dataclass(frozen=True, slots=True)
class Cores:
    """The cores of the server and of the load, which must differ."""

    server: int
    load: int

    @classmethod
    def choose(cls) -> Cores:
        """
        Pick two of the cores that this process may use.

        Raises:
            SystemExit: if there is only one.

        """
        allowed = sorted(os.sched_getaffinity(0))
        if len(allowed) < 2:
            raise SystemExit("The benchmarks need two cores: one for the server, one for the load.")
        return cls(allowed[0], allowed[-1])


@contextlib.contextmanager
def on_core(core: int) -> Iterator[None]:
    """Pin processes started inside the block to one core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def raise_limits(files: int) -> None:
    """
    Let this process and its children open as many files as the system allows.

    Raises:
        SystemExit: if that is fewer than ``files``.

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
    """Return an unused port below the ephemeral range, so that the system does not hand it out meanwhile."""
    first, _ = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    while True:
        port = random.randrange(1_025, first)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


class Server:
    """A running server."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self._process = process
        self.port = port

    @property
    def pids(self) -> list[int]:
        """The process and its descendants."""
        return family(self._process.pid)

    def come_to_rest(self) -> None:
        """
        Wait until it is idle.

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
    Run a server on a core for the duration of the block.

    Raises:
        ServerFailed: if it does not listen in time, or terminates before the block ends.

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
    """Terminate it and its descendants, by force if need be: the measurement is over."""
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
    """Return the CPU time used by processes, by their own clocks."""
    total = 0.0
    for pid in pids:
        with contextlib.suppress(OSError):
            total += time.clock_gettime(~pid << 3 | CPU_CLOCK)
    return total


def machine_seconds() -> float:
    """Return the CPU time used by all processes of the machine."""
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    user, nice, system, _, _, irq, softirq, steal = map(int, fields[:8])
    return (user + nice + system + irq + softirq + steal) / _TICKS


def python(module: str, *arguments: object) -> list[str]:
    """Return the command that runs a module with this Python."""
    return [sys.executable, "-m", module, *map(str, arguments)]
