"""A server under attack, with an honest client beside the attacker."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from primacron import Context, Primacron, Session
from primacron.errors import PrimacronError
from primacron.protocol.engine import Phase
from tests.support.engine import Client, Events
from tests.support.http import RawConnection, Response

DEADLINE = 10.0
HONEST = "honest"
LIVEZ = "/primacron/livez"


async def until(condition: Callable[[], object], what: str, deadline: float = DEADLINE) -> None:
    """Wait for what no event tells."""
    try:
        async with asyncio.timeout(deadline):
            while not condition():
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise AssertionError(f"waited {deadline:g} s for: {what}") from None


def head(line: str, *fields: str, host: str | None = "localhost") -> bytes:
    """Return the head of a request, byte for byte as given."""
    lines = [line, *([] if host is None else [f"Host: {host}"]), *fields, "", ""]
    return "\r\n".join(lines).encode("latin-1")


def get(target: str = LIVEZ, *fields: str) -> bytes:
    """Return a whole GET request."""
    return head(f"GET {target} HTTP/1.1", *fields)


@dataclass(frozen=True)
class Tables:
    """What the server keeps: if it does not come back to what it was, something leaks."""

    connections: int
    sessions: int
    deadlines: int
    waiting_bytes: int
    http: int
    tasks: int


class Honest:
    """A client that sends an echo after the other and gets each back, whatever happens beside it."""

    def __init__(self, client: Events) -> None:
        self._client = client
        self._count = 0
        self._stop = asyncio.Event()
        self._running = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while not self._stop.is_set():
            await self._echo()
            await asyncio.sleep(0.005)

    async def _echo(self) -> None:
        self._count += 1
        await self._client.emit("echo", f"honest {self._count}", id=self._count)
        while True:
            message = await self._client.receive()
            if message.get("ack") == self._count:
                assert message == {"ack": self._count, "args": [f"honest {self._count}"]}
                return

    async def finish(self) -> None:
        """Stop, after one more echo; raise what went wrong."""
        self._stop.set()
        async with asyncio.timeout(DEADLINE):
            await self._running
            await self._echo()

    async def close(self) -> None:
        """Stop at once."""
        self._running.cancel()
        await asyncio.wait({self._running})


@dataclass
class Arena:
    """The server, what it told its listeners, and who attacks it."""

    server: Primacron
    client: Client
    errors: list[tuple[Exception, Context]] = field(default_factory=list)
    ended: dict[str, list[str]] = field(default_factory=dict)
    _taken: int = 0

    def listen(self) -> None:
        """Hear errors and ends, and offer an echo."""

        @self.server.on("error::*")
        def erred(error: Exception, context: Context) -> None:
            self.errors.append((error, context))

        @self.server.on("disconnection")
        def disconnected(session: Session, reason: str) -> None:
            self.ended.setdefault(session.account, []).append(reason)

        @self.server.event("echo")
        def echo(session: Session, text: str) -> str:
            return text

    # What the server told

    async def error(self, event: str) -> tuple[Exception, Context]:
        """Return the next error; it must be of this kind, and counted."""
        await until(lambda: len(self.errors) > self._taken, f"an {event}")
        error, context = self.errors[self._taken]
        self._taken += 1
        kind = error.event if isinstance(error, PrimacronError) else "error::handler"
        assert kind == event, f"{kind}: {error}"
        assert self.server.metrics[event] >= 1
        return error, context

    async def reason(self, account: str) -> str:
        """Wait for the end of the account's one session and return its reason."""
        await until(lambda: self.ended.get(account), f"the end of {account}")
        (reason,) = self.ended[account]
        return reason

    def session(self, account: str) -> Session:
        """Return the one session of an account."""
        (session,) = [each for each in self.server.node.hub.sessions if each.account == account]
        return session

    async def polling(self, account: str) -> Session:
        """Wait until a poll of the account's session waits for something to answer; return the session."""
        session = self.session(account)
        await until(lambda: session.connection is not None and session.connection.carrier.ready, "a poll")
        return session

    @property
    def is_quiet(self) -> bool:
        """Whether all errors were looked at."""
        return self._taken == len(self.errors)

    # What the attacker does

    async def raw(self, data: bytes = b"") -> RawConnection:
        """Open a TCP connection and send bytes."""
        connection = await self.client.raw()
        if data:
            await connection.send(data)
        return connection

    async def ask(self, data: bytes) -> Response:
        """Send bytes on a connection of their own and return the first answer."""
        return await (await self.raw(data)).read_response()

    async def assert_serves(self, connection: RawConnection) -> None:
        """Check that a connection is still good for a request."""
        await connection.send(get())
        assert (await connection.read_response()).status == 200

    # What is left

    def tables(self) -> Tables:
        """Count what the server keeps; what a poll will still fetch has ended and does not count."""
        hub = self.server.node.hub
        living = [each for each in hub.connections.values() if each.phase is not Phase.LINGERING]
        lingering = len(hub.connections) - len(living)
        return Tables(
            connections=len(living),
            sessions=len(hub.sessions),
            deadlines=sum(1 for bucket in hub.wheel._buckets.values() for entry in bucket if entry) - lingering,
            waiting_bytes=sum(each.waiting for each in living),
            http=sum(len(listener.open) for listener in self.server._listeners),
            tasks=len(asyncio.all_tasks()),
        )

    async def assert_as_before(self, before: Tables) -> None:
        """Close everything of the attacker and wait until nothing of it is left in the server."""
        await self.client.close()
        for session in tuple(self.server.node.hub.sessions):
            if session.account != HONEST:
                session.disconnect("the test is over")
        with contextlib.suppress(AssertionError):
            await until(lambda: self.tables() == before, "the tables")
        assert self.tables() == before


def message_of(response: Response) -> str:
    """Return the text of a refusal, which is JSON with a code and a message."""
    assert response.headers["content-type"] == "application/json", response
    body: dict[str, Any] = response.json()
    assert set(body) == {"code", "message"}
    assert isinstance(body["message"], str)
    return body["message"]
