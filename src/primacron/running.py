"""The blocking form of a server: an event loop of its own, and signals."""

from __future__ import annotations

import asyncio
import gc
import secrets
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Protocol, TypeVar

from primacron.standalone.workers import Supervisor, Worker

T = TypeVar("T")

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Runnable(Protocol):
    """A server that listens."""

    secrets: tuple[str, ...]
    is_local: bool

    @property
    def uri(self) -> str:
        """The address as people write it."""

    @property
    def endpoint_path(self) -> str:
        """The path of the stream."""

    def count(self) -> int:
        """Return the number of sessions of this process."""

    async def destroy(self) -> None:
        """End it."""

    def hurry(self) -> None:
        """Wait for nothing any more while it ends."""


def run(server: Runnable, listen: Callable[[], Awaitable[Any]], worker: Worker | None = None) -> None:
    """Listen, and serve until a signal comes; as a ``worker`` also until its supervisor is gone."""
    _demand_no_loop()
    hurried: list[bool] = []
    _run(_serve(server, listen, worker, hurried))
    if hurried:
        sys.exit(1)


def supervise(server: Runnable, port: int, host: str | None, count: int) -> None:
    """Keep several workers running until a signal comes."""
    _demand_no_loop()
    given = server.secrets
    secret = given[0] if given else secrets.token_urlsafe(24)

    async def serve() -> int:
        supervisor = Supervisor(port, host, count, secret, _say)
        if not given and supervisor.is_local:
            _say_secret(secret)
        return await supervisor.run()

    status = _run(serve())
    if status:
        sys.exit(status)


def _demand_no_loop() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise RuntimeError("an event loop runs already: in the place of run() use `await server.listen(...)`")


def _run(main: Coroutine[Any, Any, T]) -> T:
    try:
        import uvloop  # noqa: PLC0415 (used where it is installed)
    except ImportError:
        return asyncio.run(main)
    return uvloop.run(main)


async def _serve(
    server: Runnable, listen: Callable[[], Awaitable[Any]], worker: Worker | None, hurried: list[bool]
) -> None:
    stop = asyncio.Event()

    def on_signal() -> None:
        if stop.is_set():
            hurried.append(True)
            server.hurry()
        stop.set()

    loop = asyncio.get_running_loop()
    for number in _SIGNALS:
        loop.add_signal_handler(number, on_signal)
    loop.add_signal_handler(signal.SIGHUP, lambda: None)  # the supervisor of workers acts on it
    try:
        await listen()
        if worker is None:
            _announce(server)
        elif not server.secrets and server.is_local:
            server.secrets = (worker.secret,)
        _settle_memory()
        if worker is not None:
            worker.begun(stop.set)
        await stop.wait()
    finally:
        if worker is None:
            _say(f"ending {server.count()} sessions, 5 seconds at most")
        await server.destroy()


def _announce(server: Runnable) -> None:
    _say(f"listening on {server.uri}{server.endpoint_path}")
    if not server.secrets and server.is_local:
        server.secrets = (secrets.token_urlsafe(24),)
        _say_secret(server.secrets[0])


def _say_secret(secret: str) -> None:
    _say(f"secret of the control routes, until the process ends: {secret}")


def _settle_memory() -> None:
    """Take what was loaded until now out of every later collection of garbage."""
    gc.collect()
    gc.freeze()


def _say(text: str) -> None:
    print(f"primacron: {text}", file=sys.stderr, flush=True)  # noqa: T201 (to the person at the terminal)
