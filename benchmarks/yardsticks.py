"""The load generator and the floor, both in C: built and run here, with their reports."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec

FOLDER: Final = Path(__file__).parent / "load"
FLAGS: Final = ("-O2", "-Wall", "-Wextra")
#: Seconds after which a run is given up.
DEADLINE: Final = 180.0


class YardstickFailed(Exception):
    """The load generator produced no figures; the message is what it printed."""


class Phase(msgspec.Struct, frozen=True):
    """One phase of a run: its duration and its CPU use."""

    secs: float
    per_s: float
    client_busy: float
    messages: int = 0
    connections: int = 0
    server_busy: float = 0.0
    server_cpu_us: float = 0.0
    #: CPU seconds of each server process.
    each_server_cpu_s: tuple[float, ...] = ()


class Memory(msgspec.Struct, frozen=True):
    """Memory of the server processes, in bytes."""

    rss: int
    pss: int
    bytes_per_connection: float = 0.0


class Spread(msgspec.Struct, frozen=True):
    """Quantiles of samples, in milliseconds."""

    samples: int
    mean: float
    p50: float
    p99: float
    p999: float = msgspec.field(name="p99.9")
    max: float


class Report(msgspec.Struct, frozen=True, rename={"latency": "latency_ms", "late": "late_ms"}):
    """The line of JSON that a run prints."""

    mode: str
    run: Phase
    retries: int
    tls: str | None = None
    connect: Phase | None = None
    memory: Memory | None = None
    rounds: int = 0
    latency: Spread | None = None
    late: Spread | None = None


def compile_floor(to: Path) -> Path:
    """Build the floor."""
    return _compile(to / "floor", [FOLDER / "floor.c"])


def compile_load(to: Path, *, tls: bool) -> Path:
    """Build the load generator, with OpenSSL or without."""
    sources = sorted(set(FOLDER.glob("*.c")) - {FOLDER / "floor.c"})
    return _compile(to / "eioload", sources, ("-DWITH_TLS", "-lssl", "-lcrypto") if tls else ())


def _compile(program: Path, sources: Iterable[Path], more: Iterable[str] = ()) -> Path:
    program.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["gcc", *FLAGS, "-o", program, *sources, *more], check=True)
    return program


def write_options(**options: object) -> list[str]:
    """Format options for the load generator's command line; True marks a flag without a value."""
    line = []
    for name, value in options.items():
        line.append(f"--{name.replace('_', '-')}")
        if value is not True:
            line.append(str(value))
    return line


def run_load(program: Path, options: Iterable[str], *, deadline: float = DEADLINE) -> Report:
    """
    Run the load generator and return its report.

    Raises:
        YardstickFailed: if it produced no figures.

    """
    command = [str(program), *options]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=deadline, check=False)
    except subprocess.TimeoutExpired:
        raise YardstickFailed(f"no end after {deadline:g} s: {' '.join(command)}") from None
    if done.returncode != 0 or not done.stdout:
        raise YardstickFailed(f"{done.stderr.strip() or f'ended with {done.returncode}'}: {' '.join(command[1:])}")
    return msgspec.json.decode(done.stdout, type=Report)
