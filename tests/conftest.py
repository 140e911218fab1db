"""Fixtures of all tests: servers of each kind, on free ports."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final, TypeAlias

import pytest
from hypothesis import settings

import primacron
from primacron import Primacron
from primacron.logs import LOGGER
from tests.support.engine import Client
from tests.support.forms import IS_PLAIN, LENGTH, LeftOut, Length
from tests.support.lines import Lines
from tests.support.serving import KINDS, serving

# The same examples in every run, however slow the machine; `--hypothesis-profile=search` looks for new ones.
settings.register_profile("tests", deadline=None, derandomize=True)
settings.register_profile("search", deadline=None, max_examples=5_000)
settings.load_profile("tests")


#: What is tested compiled alone. All else runs in both forms: what a message passes is one source, but two programs.
LEFT_OUT_PLAIN: Final = (
    LeftOut(
        "tests/benchmarks/", "the guard counts both forms itself; all else there is C and the benchmarks' own code"
    ),
    LeftOut("tests/docs/", "the documents are of the public interface, which tests/server tries in both forms"),
    LeftOut("tests/demo/", "the page in a browser, above what is compiled"),
    LeftOut("tests/clients/", "official clients: tests/transports holds the same bytes to their packets in both forms"),
    LeftOut("tests/cluster/test_handoff_model.py", "a search over tables that no compiled module has a part in"),
    LeftOut("tests/transports/", "what is compiled below the kinds is the same for all", "kind", ("standalone",)),
    LeftOut("tests/asgi/", "what is compiled below the kinds is the same for all", "kind", ("standalone",)),
    LeftOut("tests/asgi/", "uvicorn's websockets differ above what is compiled", "ws", ("websockets-sansio",)),
    LeftOut("tests/hostile/", "what is compiled below the kinds is the same for all", "kind", ("standalone",)),
    LeftOut("tests/cluster/", "backends are not compiled", "backend", ("memory", "redis")),
    LeftOut("tests/cluster/", "backends are not compiled", "place", ("redis",)),
)


#: Backends of several processes, which take seconds to start: their tests run in one process.
TOGETHER: Final = ("redis-cluster", "redis-sentinel")


def pytest_configure(config: pytest.Config) -> None:
    """Refuse to test compiled modules that are older than their sources."""
    config.addinivalue_line("markers", "soak: has a long form, which `make soak` runs")
    package = Path(primacron.__file__).parent
    for types in package.rglob("*.pxd"):
        source = types.with_suffix(".py")
        newest = max(types.stat().st_mtime, source.stat().st_mtime)
        for built in types.parent.glob(f"{types.stem}.*.so"):
            if built.stat().st_mtime < newest:
                raise pytest.UsageError(f"{built} is older than its source: run `make build`")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what this form or this length has not, and keep the tests of one backend together."""
    chosen: list[pytest.Item] = []
    left_out: list[pytest.Item] = []
    for item in items:
        is_soak = "length" in getattr(item, "fixturenames", ())
        if is_soak:
            item.add_marker(pytest.mark.soak)
        is_left_out = (LENGTH.is_long and not is_soak) or (IS_PLAIN and any(each.has(item) for each in LEFT_OUT_PLAIN))
        (left_out if is_left_out else chosen).append(item)
        item.add_marker(pytest.mark.xdist_group(_group(item)))
    config.hook.pytest_deselected(items=left_out)
    items[:] = chosen


def _group(item: pytest.Item) -> str:
    """Return what a test shares a process with: those of one backend with many processes, or its file."""
    params = getattr(getattr(item, "callspec", None), "params", {})
    backend = params.get("backend", params.get("place"))
    return str(backend) if backend in TOGETHER else item.nodeid.partition("::")[0]


@pytest.fixture
def length() -> Length:
    """How long a scenario is; who asks for it has a long form."""
    return LENGTH


@pytest.fixture
def lines() -> Iterator[Lines]:
    """Return what is written to the log of the library."""
    lines = Lines()
    LOGGER.addHandler(lines)
    yield lines
    LOGGER.removeHandler(lines)


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
