"""Fixtures of all tests: servers of each kind, on free ports."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from hypothesis import settings

import primacron
from primacron import Primacron
from tests.support.engine import Client
from tests.support.serving import KINDS, serving

# The same examples in every run, however slow the machine; `--hypothesis-profile=search` looks for new ones.
settings.register_profile("tests", deadline=None, derandomize=True)
settings.register_profile("search", deadline=None, max_examples=5_000)
settings.load_profile("tests")


def pytest_configure() -> None:
    """Refuse to test compiled modules that are older than their sources."""
    package = Path(primacron.__file__).parent
    for types in package.rglob("*.pxd"):
        source = types.with_suffix(".py")
        newest = max(types.stat().st_mtime, source.stat().st_mtime)
        for built in types.parent.glob(f"{types.stem}.*.so"):
            if built.stat().st_mtime < newest:
                raise pytest.UsageError(f"{built} is older than its source: run `make build`")


Serve: TypeAlias = Callable[[Primacron], Awaitable[Client]]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """How a server is served: by our own server on each event loop, and as an ASGI application."""
    return str(request.param)


@pytest.fixture
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """The event loop of a test: uvloop, unless the kind of server asks for asyncio's own."""
    params = getattr(getattr(request.node, "callspec", None), "params", {})
    return "asyncio", {"use_uvloop": params.get("kind") != "standalone-asyncio"}


@pytest.fixture
async def serve(request: pytest.FixtureRequest, anyio_backend: object) -> AsyncIterator[Serve]:
    """Return a function that serves a server and returns a client for it; all are ended after the test."""
    params = getattr(getattr(request.node, "callspec", None), "params", {})
    kind = params.get("kind", "standalone")
    async with AsyncExitStack() as stack:

        async def start(server: Primacron) -> Client:
            port = await stack.enter_async_context(serving(server, kind))
            client = Client(port)
            stack.push_async_callback(client.close)
            return client

        yield start
