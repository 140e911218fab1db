"""Private Redis processes for tests: standalone, clustered, behind Sentinel; on free ports, with nothing on disk."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Self

DEADLINE = 20.0
HOST = "127.0.0.1"


def free_port() -> int:
    """Return a port that nobody uses; below 50,000, since a cluster node also takes the one 10,000 higher."""
    while True:
        with contextlib.suppress(OSError), socket.create_server((HOST, 0)) as probe:
            port = int(probe.getsockname()[1])
            if port < 50_000:
                socket.create_server((HOST, port + 10_000)).close()
                return port


def _read_answer(stream: BinaryIO) -> str:
    """Read a reply and format it as redis-cli does."""
    line = stream.readline()
    if not line.endswith(b"\r\n"):
        raise ConnectionResetError("the answer is cut off")
    kind, rest = line[:1], line[1:-2].decode()
    if kind == b"*":
        return "\n".join(_read_answer(stream) for _ in range(int(rest)))
    if kind == b"$":
        return stream.read(int(rest) + 2)[:-2].decode() if rest != "-1" else ""
    return rest


class RedisProcess:
    """A redis-server that a test can start and stop repeatedly, always on the same port."""

    def __init__(self, *options: str) -> None:
        path = shutil.which("redis-server")
        assert path is not None, "scripts/install-debian redis-server"
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="redis-"))
        self._command = [path]
        self._options = options
        self._environment: dict[str, str] = {}
        self._offset = self.folder / "clock"
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    def with_clock(cls) -> Self:
        """Return one whose clock the test can set with :meth:`set_clock`."""
        process = cls()
        library = process.folder / "clock.so"
        source = Path(__file__).with_name("clock.c")
        subprocess.run(["gcc", "-O2", "-Wall", "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
        process._environment = {"LD_PRELOAD": str(library), "CLOCK_OFFSET": str(process._offset)}
        process._offset.write_bytes(bytes(8))
        return process

    def set_clock(self, ahead: float) -> None:
        """Set its clock this many seconds ahead of the machine's."""
        with self._offset.open("r+b", buffering=0) as offset:
            offset.write(round(ahead * 1_000_000).to_bytes(8, sys.byteorder, signed=True))

    @property
    def url(self) -> str:
        """Its address, as an application would pass it."""
        return f"redis://{HOST}:{self.port}"

    def start(self) -> Self:
        """Start it, empty, and wait until it answers."""
        options = ["--port", str(self.port), "--bind", HOST, "--save", "", "--dir", str(self.folder), *self._options]
        environment = {**os.environ, **self._environment}
        self._process = subprocess.Popen([*self._command, *options], stdout=subprocess.DEVNULL, env=environment)
        try:
            self.wait()
        except AssertionError:
            self.kill()
            raise
        return self

    def wait(self) -> None:
        """Wait until it answers."""
        deadline = time.monotonic() + DEADLINE
        while self.command("PING") != "PONG":
            assert time.monotonic() < deadline, f"redis on port {self.port} does not answer"
            time.sleep(0.01)

    def command(self, *parts: object) -> str:
        """Run one command and return its reply, one line per value; empty if the server is down."""
        words = [str(part).encode() for part in parts]
        request = b"".join((b"*%d\r\n" % len(words), *(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)))
        try:
            with socket.create_connection((HOST, self.port), DEADLINE) as connection:
                connection.sendall(request)
                return _read_answer(connection.makefile("rb")).strip()
        except ConnectionError:
            return ""

    def make_older(self, namespace: str, seconds: float) -> None:
        """Backdate the epochs of a namespace by this many seconds."""
        for key in self.command("KEYS", f"{namespace}:epoch:*").split():
            random, run, began = self.command("GET", key).split()
            self.command("SET", key, f"{random} {run} {int(began) - round(seconds * 1000)}")

    def cli(self, *parts: str) -> str:
        """Return what redis-cli prints."""
        line = ["redis-cli", "-h", HOST, "-p", str(self.port), *parts]
        return subprocess.run(line, capture_output=True, timeout=DEADLINE, check=False).stdout.decode().strip()

    def signal(self, number: int) -> None:
        """Send it a signal."""
        assert self._process is not None
        os.kill(self._process.pid, number)

    def freeze(self) -> None:
        """Suspend it: connections stay open, nothing is answered."""
        self.signal(signal.SIGSTOP)
        assert self._process is not None
        state = Path(f"/proc/{self._process.pid}/stat")
        deadline = time.monotonic() + DEADLINE
        while state.read_text().rpartition(")")[2].split()[0] != "T":  # until then it may still answer
            assert time.monotonic() < deadline, "redis does not stop"
            time.sleep(0.001)

    def thaw(self) -> None:
        """Resume it."""
        self.signal(signal.SIGCONT)

    def kill(self) -> None:
        """Kill it; its data is lost."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def close(self) -> None:
        """Kill it and remove its files."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()


@contextlib.contextmanager
def redis_cluster(shards: int = 3) -> Iterator[list[RedisProcess]]:
    """Run a Redis Cluster with one primary per shard and no replicas."""
    options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "1000")
    with contextlib.ExitStack() as stack:
        nodes = [stack.enter_context(RedisProcess(*options)) for _ in range(shards)]
        addresses = [f"{HOST}:{node.port}" for node in nodes]
        create = ["redis-cli", "--cluster", "create", *addresses, "--cluster-yes", "--cluster-replicas", "0"]
        subprocess.run(create, check=True, capture_output=True, timeout=60)
        deadline = time.monotonic() + DEADLINE
        while not all("cluster_state:ok" in node.command("CLUSTER", "INFO") for node in nodes):
            assert time.monotonic() < deadline, "the Redis Cluster did not form"
            time.sleep(0.05)
        yield nodes


class SentinelSetup:
    """A primary, a replica and the three sentinels that monitor them."""

    service = "main"

    def __init__(self, stack: contextlib.ExitStack) -> None:
        # Otherwise the primary waits some seconds for more replicas.
        self.primary = stack.enter_context(RedisProcess("--repl-diskless-sync-delay", "0"))
        self.replica = stack.enter_context(RedisProcess("--replicaof", f"{HOST} {self.primary.port}"))
        self._wait_for_replica()
        self.sentinels = [stack.enter_context(_Sentinel(self.primary.port, self.service)) for _ in range(3)]
        self._wait_for_sentinels()

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """The sentinels' addresses."""
        return [(HOST, sentinel.port) for sentinel in self.sentinels]

    def current(self) -> int:
        """Return the primary's port, according to a sentinel."""
        return int(self.sentinels[0].command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.service).split()[1])

    def _wait_for_replica(self) -> None:
        deadline = time.monotonic() + DEADLINE
        while "master_link_status:up" not in self.replica.command("INFO", "replication"):
            assert time.monotonic() < deadline, "the replica does not follow"
            time.sleep(0.02)

    def _is_complete(self, sentinel: RedisProcess) -> bool:
        lines = sentinel.command("SENTINEL", "MASTER", self.service).splitlines()
        known = dict(zip(lines[::2], lines[1::2], strict=False))
        return known.get("num-other-sentinels") == "2" and known.get("num-slaves") == "1"

    def _wait_for_sentinels(self) -> None:
        deadline = time.monotonic() + DEADLINE
        for sentinel in self.sentinels:
            while not self._is_complete(sentinel):
                assert time.monotonic() < deadline, "the sentinels do not know each other"
                time.sleep(0.05)


class _Sentinel(RedisProcess):
    def __init__(self, primary: int, service: str) -> None:
        super().__init__()
        self._file = self.folder / "sentinel.conf"
        self._file.write_text(
            f"port {self.port}\nbind {HOST}\ndir {self.folder}\n"
            f"sentinel monitor {service} {HOST} {primary} 2\n"
            f"sentinel down-after-milliseconds {service} 500\n"
            f"sentinel failover-timeout {service} 2000\n"
        )

    def start(self) -> Self:
        """Start it and wait until it answers."""
        self._process = subprocess.Popen([*self._command, str(self._file), "--sentinel"], stdout=subprocess.DEVNULL)
        self.wait()
        return self


@contextlib.contextmanager
def redis_sentinel() -> Iterator[SentinelSetup]:
    """Run Redis behind Sentinel."""
    with contextlib.ExitStack() as stack:
        yield SentinelSetup(stack)


async def in_thread(function: Any, *args: Any) -> Any:
    """Run a blocking function in a thread."""
    return await asyncio.get_running_loop().run_in_executor(None, function, *args)
