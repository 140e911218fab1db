"""A server under attack, with an honest client beside the attacker."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any
from urllib.parse import quote

import pytest

from primacron import Context, Primacron, Session
from primacron.errors import PrimacronError
from primacron.protocol.engine import Phase
from tests.support.engine import Client, Events, Polling
from tests.support.http import RawConnection, Response

DEADLINE = 10.0
BOTH = ("polling", "websocket")
HONEST = "honest"
LIVEZ = "/primacron/livez"
#: For what an outer ASGI server decides before we see it.
STANDALONE = pytest.mark.parametrize("kind", ["standalone", "standalone-asyncio"], indirect=True)


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
    promised: int
    counted: int
    deadlines: int
    waiting_bytes: int
    blocked_bytes: int
    unfinished_bytes: int
    http: int
    tasks: int

    def fit(self, before: Tables) -> bool:
        """Tell whether nothing has grown; at a busy moment there was a task more than at another one."""
        return all(getattr(self, each.name) <= getattr(before, each.name) for each in fields(self))


class Honest:
    """A client that sends an echo after the other and gets each back, whatever happens beside it."""

    def __init__(self, client: Events) -> None:
        #: Seconds between two echoes.
        self.pace = 0.005
        self._client = client
        self._count = 0
        self._stop = asyncio.Event()
        self._running = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while not self._stop.is_set():
            await self._echo()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.pace):
                    await self._stop.wait()

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
    #: What came through to the application from others than the honest client.
    heard: list[str] = field(default_factory=list)
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
            if session.account != HONEST:
                self.heard.append(text)
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

    def forget_errors(self) -> None:
        """Let go of the errors that were looked at, and of the requests that they were about."""
        assert self.is_quiet
        self.errors.clear()
        self._taken = 0

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
        await until(lambda: session.connection is not None and session.connection.transport.ready, "a poll")
        return session

    @property
    def is_quiet(self) -> bool:
        """Whether all errors were looked at."""
        return self._taken == len(self.errors)

    async def refused(
        self,
        response: Response,
        code: int,
        why: str,
        *,
        status: int = 400,
        event: str = "error::protocol",
        case: object = None,
    ) -> None:
        """Check that a request was refused in JSON, and that the application heard of it once, in the same words."""
        message = message_of(response)
        assert (response.status, response.json()["code"]) == (status, code), (case, response)
        assert why in message, (case, message)
        error, context = await self.error(event)
        assert str(error) == message, case
        assert context.request is not None, case
        assert self.is_quiet, case

    # What the attacker does

    async def handshake(self, query: str, by: str, headers: dict[str, str] | None = None) -> Response:
        """Send a handshake by polling or by websocket and return its answer; what it opens is closed after the test."""
        if by == "polling":
            return await self.client.fetch("GET", f"/stream/?{query}", headers)
        return (await self.client.websocket_to(f"/stream/?{query}", headers=headers)).response

    async def poll_in(self, account: str = "mallory", *, eio: int = 4) -> Polling:
        """Open a connection by polling."""
        return await self.client.poll_in(f"account={quote(account, safe='')}", eio=eio)

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
        node = self.server.node
        hub = node.hub
        living = [each for each in hub.connections.values() if each.phase is not Phase.LINGERING]
        lingering = [each for each in hub.connections.values() if each.phase is Phase.LINGERING]
        return Tables(
            connections=len(living),
            sessions=len(hub.sessions),
            promised=len(node.admissions.pending),
            counted=node.admissions._limits._total - len(lingering),
            deadlines=len(hub.wheel) - len(lingering),
            waiting_bytes=sum(each.waiting for each in living),
            blocked_bytes=hub.blocked_bytes - sum(each.waiting for each in lingering if hub.is_blocked(each)),
            unfinished_bytes=hub.unfinished.total,
            http=sum(len(listener.open) for listener in self.server._listeners),
            tasks=len(asyncio.all_tasks()),
        )

    async def assert_as_before(self, before: Tables) -> None:
        """Close everything of the attacker and wait until nothing of it is left in the server."""
        await self.client.close()
        for session in tuple(self.server.node.hub.sessions):
            if session.account != HONEST:
                session.disconnect("the test is over")
        left = self.tables()

        def is_as_before() -> bool:
            nonlocal left
            left = self.tables()
            return left.fit(before)

        with contextlib.suppress(AssertionError):
            await until(is_as_before, "the tables")
        assert left.fit(before), (left, before)


async def assert_lives(polling: Polling) -> None:
    """Send an echo by POST and get it by the next poll."""
    assert (await polling.post('4{"event":"echo","args":["alive"],"id":5}')).text == "ok"
    assert (await polling.poll()).text == '4{"ack":5,"args":["alive"]}'


def message_of(response: Response) -> str:
    """Return the text of a refusal, which is JSON with a code and a message."""
    assert response.headers["content-type"] == "application/json", response
    body: dict[str, Any] = response.json()
    assert set(body) == {"code", "message"}
    assert isinstance(body["message"], str)
    return body["message"]
