"""
Several processes on one port, each a node of its own.

The first process is the supervisor: it starts the program once per worker, replaces
workers that exit, shuts all down cleanly on SIGTERM and SIGINT, and on SIGHUP
replaces them one by one with freshly loaded ones. The kernel distributes
connections among the workers.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import Any, Final, Self

from primacron.standalone.sockets import bind, is_loopback

#: Mark a process as a worker: its link to the supervisor, the port, the secret.
_VARIABLES: Final = ("PRIMACRON_LINK", "PRIMACRON_PORT", "PRIMACRON_SECRET")

#: Bytes of a worker's startup report.
MAX_REPORT: Final = 4096
#: Seconds a worker has to start, and to exit when told to.
BEGIN_TIMEOUT: Final = 30.0
END_TIMEOUT: Final = 10.0
#: Seconds before a worker that exited soon after its start is replaced: initial and maximum delay.
RETRY: Final = (0.1, 5.0)
#: Seconds a worker must have listened for its replacement to start at once.
SETTLED_AFTER: Final = 5.0
#: Seconds between polls for exited processes, where the kernel gives no notification.
LOOK_EVERY: Final = 0.1


class Worker:
    """A worker's view of its supervisor."""

    def __init__(self, link: socket.socket, port: int, secret: str) -> None:
        self._link = link
        self.port = port
        self.secret = secret

    @classmethod
    def of_environment(cls) -> Self | None:
        """Return it if this process is a worker; its child processes are not."""
        link, port, secret = (os.environ.pop(name, None) for name in _VARIABLES)
        if link is None or port is None or secret is None:
            return None
        return cls(socket.socket(fileno=int(link)), int(port), secret)

    def begun(self, orphaned: Callable[[], None], address: str, about: str) -> None:
        """
        Tell the supervisor that this worker is listening, along with its startup message.

        ``orphaned`` is called when the supervisor is gone.
        """
        self._link.setblocking(False)
        self._link.send(f"{address}\n{about}".encode())

        def read() -> None:
            if not self._link.recv(1):
                asyncio.get_running_loop().remove_reader(self._link)
                orphaned()

        asyncio.get_running_loop().add_reader(self._link, read)


class _Child:
    """One worker, as seen by its supervisor."""

    def __init__(self, port: int, secret: str) -> None:
        self._link, theirs = socket.socketpair()
        values = (str(theirs.fileno()), str(port), secret)
        environment = {**os.environ, **dict(zip(_VARIABLES, values, strict=True))}
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 (the program itself)
                [sys.executable, *sys.orig_argv[1:]], env=environment, pass_fds=(theirs.fileno(),)
            )
        self._link.setblocking(False)
        self._loop = asyncio.get_running_loop()
        self.pid = self._process.pid
        #: Its exit status, once it has exited.
        self.ended: asyncio.Future[int] = self._loop.create_future()
        #: Its startup report: its address and a description.
        self.address = self.about = ""
        self._began_at: float | None = None
        self._dismissed_at: float | None = None
        self._watch()

    def _watch(self) -> None:
        """Watch for its exit; one waiting thread per process would use up the threads."""
        try:
            handle = os.pidfd_open(self.pid)
        except (AttributeError, OSError):
            self._look()
            return

        def ended() -> None:
            self._loop.remove_reader(handle)
            os.close(handle)
            self._look()

        self._loop.add_reader(handle, ended)

    def _look(self) -> None:
        status = self._process.poll()
        if status is None:
            self._loop.call_later(LOOK_EVERY, self._look)
        elif not self.ended.done():
            self.ended.set_result(status)

    async def begins(self) -> bool:
        """Wait until it listens; False if it exits first or takes too long."""
        said = asyncio.ensure_future(self._loop.sock_recv(self._link, MAX_REPORT))
        try:
            waited: set[asyncio.Future[Any]] = {said, self.ended}
            await asyncio.wait(waited, timeout=BEGIN_TIMEOUT, return_when=asyncio.FIRST_COMPLETED)
            has_begun = said.done() and said.exception() is None and bool(said.result())
        finally:
            said.cancel()
        if has_begun:
            self.address, _, self.about = said.result().decode().partition("\n")
            self._began_at = self._loop.time()
        return has_begun

    def has_listened(self, seconds: float) -> bool:
        """Tell whether it started listening at least that many seconds ago."""
        return self._began_at is not None and self._loop.time() - self._began_at >= seconds

    def dismiss(self) -> None:
        """Send SIGTERM, once: a second signal would cut its shutdown short."""
        if self._dismissed_at is None:
            self._dismissed_at = self._loop.time()
            if self._process.poll() is None:
                self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kill it."""
        if self._process.poll() is None:
            self._process.kill()

    async def end(self) -> None:
        """Send SIGTERM, wait for the exit, and clean up."""
        self.dismiss()
        assert self._dismissed_at is not None
        await asyncio.wait({self.ended}, timeout=max(0.0, self._dismissed_at + END_TIMEOUT - self._loop.time()))
        self.kill()
        await asyncio.wait({self.ended})
        self._link.close()


class Supervisor:
    """Keeps a number of workers running until a signal stops them."""

    def __init__(self, port: int, host: str | None, count: int, secret: str, say: Callable[[str], None]) -> None:
        # Bound but never listened on: reserves the port while workers come and go.
        self._reserved = bind(host, port, reuse_port=True)
        self.port = int(self._reserved[0].getsockname()[1])
        #: Whether the workers are reachable from this machine only.
        self.is_local = all(map(is_loopback, self._reserved))
        self._count = count
        self._secret = secret
        self._say = say
        #: The current worker of each slot, and all processes, including those starting or exiting.
        self._workers: list[_Child] = []
        self._processes: set[_Child] = set()
        #: Held while the worker of a slot is being replaced.
        self._replacing = [asyncio.Lock() for _ in range(count)]
        self._stop = asyncio.Event()
        self._renewal = asyncio.Event()

    async def run(self) -> int:
        """Run until a signal arrives; return the exit status."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal)
        loop.add_signal_handler(signal.SIGHUP, self._renewal.set)
        stopped = asyncio.ensure_future(self._stop.wait())
        working = asyncio.ensure_future(self._work())
        try:
            # Whatever else is pending, a signal ends it.
            await asyncio.wait({stopped, working}, return_when=asyncio.FIRST_COMPLETED)
            return working.result() if working.done() else 0
        finally:
            stopped.cancel()
            working.cancel()
            await asyncio.wait({working})
            self._say(f"ending {self._count} workers, {END_TIMEOUT:g} seconds at most")
            await asyncio.gather(*map(self._end, tuple(self._processes)))
            for each in self._reserved:
                each.close()

    async def _work(self) -> int:
        """Start the workers and keep them running; return only if they fail to start."""
        self._workers = [self._start() for _ in range(self._count)]
        if not all(await asyncio.gather(*(worker.begins() for worker in self._workers))):
            return 1
        self._say(f"listening on {self._workers[0].address}")
        self._say(f"{' / '.join(sorted({each.about for each in self._workers}))}; {self._names()}")
        async with asyncio.TaskGroup() as group:
            for place in range(self._count):
                group.create_task(self._keep(place))
            group.create_task(self._renew_when_asked())
        return 1

    def _start(self) -> _Child:
        worker = _Child(self.port, self._secret)
        self._processes.add(worker)
        return worker

    async def _end(self, worker: _Child) -> None:
        await worker.end()
        self._processes.discard(worker)

    def _on_signal(self) -> None:
        if self._stop.is_set():
            for worker in self._processes:
                worker.kill()
        self._stop.set()

    async def _keep(self, place: int) -> None:
        """Replace the worker of a slot whenever it exits on its own."""
        pause = 0.0
        while True:
            worker = self._workers[place]
            await asyncio.wait({worker.ended})
            async with self._replacing[place]:
                if worker is not self._workers[place]:
                    continue  # it was replaced deliberately
                self._say(f"worker {worker.pid} ended by itself ({worker.ended.result()}); another one is started")
                await self._end(worker)
                pause = 0.0 if worker.has_listened(SETTLED_AFTER) else min(max(2 * pause, RETRY[0]), RETRY[1])
                await asyncio.sleep(pause)
                fresh = self._workers[place] = self._start()
                if not await fresh.begins() and not fresh.ended.done():
                    self._say(f"worker {fresh.pid} did not begin within {BEGIN_TIMEOUT:g} seconds")
                    fresh.kill()

    async def _renew_when_asked(self) -> None:
        while True:
            await self._renewal.wait()
            self._renewal.clear()
            await self._renew()

    async def _renew(self) -> None:
        """Replace the workers one by one, each once its successor is listening."""
        for place, replacing in enumerate(self._replacing):
            async with replacing:
                fresh = self._start()
                if not await fresh.begins():
                    self._say("a new worker did not begin; the others go on")
                    await self._end(fresh)
                    return
                worker, self._workers[place] = self._workers[place], fresh
            await self._end(worker)
        self._say(f"new {self._names()}")

    def _names(self) -> str:
        return f"workers {', '.join(str(worker.pid) for worker in self._workers)}"
