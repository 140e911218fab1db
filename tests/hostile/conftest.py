"""What all attacks have in common: nobody else may notice them, and nothing may be left of them."""

from __future__ import annotations

import asyncio
import gc
import logging
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, TypeAlias

import pytest

from primacron import Primacron
from tests.conftest import Serve
from tests.hostile.arena import HONEST, LIVEZ, Arena, Honest
from tests.support.engine import Client

Attack: TypeAlias = Callable[..., Awaitable[Arena]]


#: What uvicorn says of each websocket handshake that is refused as ASGI lays down, with an answer of its own.
REFUSED = "ASGI callable returned without completing handshake."


class _Records(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.getMessage() != REFUSED:
            self.lines.append(f"{record.name}: {record.getMessage()} {record.exc_info or ''}")


@pytest.fixture(autouse=True, scope="package")
def quick_collection() -> Iterator[None]:
    """Take what was there before out of the collections that each test makes."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def nothing_is_logged() -> Iterator[None]:
    """Fail when asyncio had something to say, or the outer server caught an exception of ours."""
    records, outer = _Records(), _Records()
    outer.setLevel(logging.ERROR)
    loggers = {"asyncio": records, "uvicorn.error": outer}
    for name, handler in loggers.items():
        logging.getLogger(name).addHandler(handler)
    yield
    for name, handler in loggers.items():
        logging.getLogger(name).removeHandler(handler)
    assert records.lines + outer.lines == []


@pytest.fixture(autouse=True)
async def nothing_is_raised(anyio_backend: object) -> AsyncIterator[None]:
    """Fail when anything was raised out of a callback of the event loop, or a task's exception was never looked at."""
    loop = asyncio.get_running_loop()
    before = loop.get_exception_handler()
    raised: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: raised.append(context))
    yield
    gc.collect()
    await asyncio.sleep(0)
    loop.set_exception_handler(before)
    assert raised == []


@pytest.fixture
async def attack(serve: Serve, nothing_is_raised: None) -> AsyncIterator[Attack]:
    """
    Return a function that serves a server with these options and an honest client on it.

    After the test the honest client must still get its echoes, the next one must
    be served, and the server must be as it was before.
    """
    arenas: list[tuple[Arena, Honest, Any]] = []

    async def begin(server: Primacron | None = None, **options: Any) -> Arena:
        server = server or Primacron(**options)
        client = await serve(server)
        arena = Arena(server, client)
        arena.listen()
        friend = Client(client.port)
        honest = Honest(await friend.connect(f"account={HONEST}"))
        arenas.append((arena, honest, (friend, arena.tables())))
        return arena

    yield begin
    for arena, honest, (friend, before) in arenas:
        honest.pace = 0.05  # between its echoes there is a moment without any work
        try:
            await arena.assert_as_before(before)
            await honest.finish()
            # A parser that was spoiled would serve whoever comes next.
            assert "malformed" not in (await friend.fetch("GET", LIVEZ)).text
            assert arena.ended.get(HONEST) is None
        finally:
            await honest.close()
            await friend.close()


@pytest.fixture(scope="package")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return the TLS settings of a server, and of a client that believes it."""
    folder = tmp_path_factory.mktemp("certificate")
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"]
    subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    of_server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    of_server.load_cert_chain(certificate, key)
    of_client = ssl.create_default_context(cafile=str(certificate))
    of_client.check_hostname = False
    return of_server, of_client
