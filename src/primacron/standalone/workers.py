"""
Several processes on one port, each a node of its own.

The first process supervises: it starts the program again as often as there are
workers, replaces one that ends by itself, ends all in order on SIGTERM and SIGINT,
and on SIGHUP replaces one after another, each by one that has loaded the program
anew. The kernel spreads connections over the workers.
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

#: What tells a process that it is a worker: its link to the supervisor, the port, the secret.
_VARIABLES: Final = ("PRIMACRON_LINK", "PRIMACRON_PORT", "PRIMACRON_SECRET")

#: Seconds that a worker has to begin, and to end once it was told to.
BEGIN_TIMEOUT: Final = 30.0
END_TIMEOUT: Final = 10.0
#: Seconds before a worker that has ended by itself is replaced, at first and at most.
RETRY: Final = (0.1, 5.0)


class Worker:
    """What a worker knows of its supervisor."""

    def __init__(self, link: socket.socket, port: int, secret: str) -> None:
        self._link = link
        self.port = port
        self.secret = secret

    @classmethod
    def of_environment(cls) -> Self | None:
        """Return it in a process that is a worker; its own children are none."""
        link, port, secret = (os.environ.pop(name, None) for name in _VARIABLES)
        if link is None or port is None or secret is None:
            return None
        return cls(socket.socket(fileno=int(link)), int(port), secret)

    def begun(self, orphaned: Callable[[], None]) -> None:
        """Tell the supervisor that this worker listens; the function is called when the supervisor is gone."""
        self._link.setblocking(False)
        self._link.send(b"1")

        def read() -> None:
            if not self._link.recv(1):
                asyncio.get_running_loop().remove_reader(self._link)
                orphaned()

        asyncio.get_running_loop().add_reader(self._link, read)


class _Child:
    """One worker, as its supervisor sees it."""

    def __init__(self, port: int, secret: str) -> None:
        self._link, theirs = socket.socketpair()
        values = (str(theirs.fileno()), str(port), secret)
        environment = {**os.environ, **dict(zip(_VARIABLES, values, strict=True))}
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 (the program itself)
                [sys.executable, *sys.orig_argv[1:]], env=environment, pass_fds=(theirs.fileno(),)
            )
        self._link.setblocking(False)
        self.pid = self._process.pid
        self.ended = asyncio.get_running_loop().run_in_executor(None, self._process.wait)
        #: Whether it was told to end.
        self.is_dismissed = False

    async def begins(self) -> bool:
        """Wait until it listens; False if it ended before, or takes too long."""
        try:
            async with asyncio.timeout(BEGIN_TIMEOUT):
                return bool(await asyncio.get_running_loop().sock_recv(self._link, 1))
        except (OSError, TimeoutError):
            return False

    def dismiss(self) -> None:
        """Tell it to end."""
        self.is_dismissed = True
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it now."""
        if self._process.poll() is None:
            self._process.kill()

    async def end(self) -> None:
        """Tell it to end, wait, and let go of it."""
        self.dismiss()
        await asyncio.wait({self.ended}, timeout=END_TIMEOUT)
        self.kill()
        await self.ended
        self._link.close()


class Supervisor:
    """Keeps a number of workers running, until a signal ends them."""

    def __init__(self, port: int, host: str | None, count: int, secret: str, say: Callable[[str], None]) -> None:
        # Never listened on: it keeps the port while workers come and go.
        self._reserved = bind(host, port, reuse_port=True)
        self.port = int(self._reserved[0].getsockname()[1])
        #: Whether only this machine can reach the workers.
        self.is_local = all(map(is_loopback, self._reserved))
        self._count = count
        self._secret = secret
        self._say = say
        self._children: list[_Child] = []
        self._stop = asyncio.Event()
        self._renewal = asyncio.Event()
        self._retry = RETRY[0]

    async def run(self) -> int:
        """Run until a signal comes; return the exit status."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal)
        loop.add_signal_handler(signal.SIGHUP, self._renewal.set)
        try:
            self._children = [self._start() for _ in range(self._count)]
            if not all(await asyncio.gather(*(child.begins() for child in self._children))):
                return 1
            self._say(f"listening on port {self.port}, {self._names()}")
            await self._watch()
        finally:
            self._say(f"ending {self._count} workers, {END_TIMEOUT:g} seconds at most")
            await asyncio.gather(*(child.end() for child in self._children))
            for each in self._reserved:
                each.close()
        return 0

    def _start(self) -> _Child:
        return _Child(self.port, self._secret)

    def _on_signal(self) -> None:
        if self._stop.is_set():
            for child in self._children:
                child.kill()
        self._stop.set()

    async def _watch(self) -> None:
        stopped = asyncio.ensure_future(self._stop.wait())
        renewed = asyncio.ensure_future(self._renewal.wait())
        try:
            while not self._stop.is_set():
                ends = {child.ended: child for child in self._children}
                waited: set[asyncio.Future[Any]] = {stopped, renewed, *ends}
                await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
                if self._renewal.is_set() and not self._stop.is_set():
                    self._renewal.clear()
                    await self._renew()
                    renewed = asyncio.ensure_future(self._renewal.wait())
                for child in [child for ended, child in ends.items() if ended.done() and not child.is_dismissed]:
                    await self._replace_lost(child)
        finally:
            stopped.cancel()
            renewed.cancel()

    async def _replace_lost(self, child: _Child) -> None:
        """Start a worker in the place of one that has ended by itself."""
        if self._stop.is_set() or child not in self._children:
            return
        self._say(f"worker {child.pid} ended by itself ({child.ended.result()}); another one is started")
        began = asyncio.get_running_loop().time()
        fresh = self._start()
        self._children[self._children.index(child)] = fresh
        await child.end()
        if await fresh.begins():
            self._retry = RETRY[0]
            return
        await asyncio.sleep(max(0.0, self._retry - (asyncio.get_running_loop().time() - began)))
        self._retry = min(self._retry * 2, RETRY[1])

    async def _renew(self) -> None:
        """Replace the workers one after another, each once the new one listens."""
        for child in tuple(self._children):
            if self._stop.is_set():
                return
            fresh = self._start()
            if not await fresh.begins():
                self._say("a new worker did not begin; the others go on")
                await fresh.end()
                return
            self._children[self._children.index(child)] = fresh
            await child.end()
        self._say(f"new {self._names()}")

    def _names(self) -> str:
        return f"workers {', '.join(str(child.pid) for child in self._children)}"
