"""`Refused`: which statuses it takes, and that each of them is what the client sees."""

from __future__ import annotations

from typing import Any

import pytest

from primacron import HttpRequest, Primacron, Refused, Session
from tests.conftest import Serve


@pytest.mark.parametrize("status", [0, 100, 200, 302, 399, 600, 1000, -1, "403", None, 403.0, True, [403]])
def test_a_status_that_is_no_refusal_is_an_error_where_it_is_made(status: Any) -> None:
    with pytest.raises(ValueError, match="status of a refusal: expected 400 to 599"):
        Refused(status)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 418, 451, 499, 500, 503, 599])
async def test_each_status_of_a_refusal_reaches_the_client(kind: str, serve: Serve, status: int) -> None:
    server = Primacron()

    @server.authorize
    def authorize(request: HttpRequest) -> None:
        raise Refused(status, "not you")

    @server.get("/page")
    def page(request: HttpRequest) -> str:
        raise Refused(status, "not you")

    client = await serve(server)
    polling = await client.fetch("GET", "/stream/?EIO=4&transport=polling&account=a")
    assert (polling.status, polling.json()) == (status, {"code": 4, "message": "not you"})
    socket = (await client.websocket()).response
    assert (socket.status, socket.json()) == (status, {"code": 4, "message": "not you"})
    answer = await client.fetch("GET", "/page")
    assert answer.status == status
    assert answer.json() == {"status": status, "type": "refused", "description": "not you"}
    assert server.metrics["error::refused"] == 3


async def test_a_refusal_without_words_is_forbidden() -> None:
    assert (Refused().http_status, str(Refused()), Refused().engine_code) == (403, "Forbidden", 4)
    assert Refused(404, "gone", engine_code=1).engine_code == 1


async def test_a_handler_refuses_in_its_words_whatever_the_status(serve: Serve) -> None:
    server = Primacron()

    @server.event("buy")
    async def buy(session: Session) -> None:
        raise Refused(402, "pay first")

    client = await (await serve(server)).connect()
    await client.emit("buy", id=1)
    assert await client.receive() == {"ack": 1, "error": {"type": "refused", "message": "pay first", "path": ""}}
    await client.emit("buy")
    await client.emit("buy", id=2)
    assert (await client.receive())["ack"] == 2
    assert server.metrics["error::refused"] == 3
