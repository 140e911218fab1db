"""Below middleware of Starlette, which waits for an answer to each request and calls it a mistake if none comes."""

from __future__ import annotations

import asyncio

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount

from tests.asgi.outer import client_of
from tests.support.hearing import DEADLINE, Hearing
from tests.transports.servers import UNKNOWN, echo_server, error_of


class Watching(BaseHTTPMiddleware):
    """Notes when a request begins, and the status of its answer or the exception in its place."""

    notes: asyncio.Queue[object]

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        self.notes.put_nowait(request.method)
        try:
            response = await call_next(request)
        except Exception as error:
            self.notes.put_nowait(error)
            raise
        self.notes.put_nowait(response.status_code)
        return response

    @classmethod
    async def note(cls) -> object:
        """Return the next note."""
        async with asyncio.timeout(DEADLINE):
            return await cls.notes.get()


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_request_that_its_client_gives_up_is_no_mistake(method: str) -> None:
    server = echo_server()
    ends = Hearing(server, "disconnection")
    Watching.notes = asyncio.Queue()
    outer = Starlette(routes=[Mount("/", server.asgi)], middleware=[Middleware(Watching)])
    async with client_of(outer) as client:
        polling = await client.poll_in()
        assert (await Watching.note(), await Watching.note()) == ("GET", 200)
        request = await client.raw()
        await request.send_request(method, polling.target, {"Content-Length": "100"} if method == "POST" else {})
        assert await Watching.note() == method
        request.abort()
        assert await Watching.note() == 499
        assert (await ends.next())[1] == "transport close"
        assert error_of(await polling.poll()) == UNKNOWN
        await server.destroy()
