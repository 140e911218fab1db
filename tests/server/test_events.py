"""Events of clients, from the wire to the handler and back, on each kind of server."""

from __future__ import annotations

from primacron import Primacron, Session
from tests.conftest import Serve


async def test_an_event_reaches_its_handler_and_the_answer_comes_back(kind: str, serve: Serve) -> None:
    server = Primacron()

    @server.event("add")
    async def add(session: Session, a: int, b: int) -> int:
        session.emit("added", session.account)
        return a + b

    client = await (await serve(server)).connect("account=ann")
    await client.emit("add", 2, 3, id=7)
    assert await client.receive() == {"event": "added", "args": ["ann"]}
    assert await client.receive() == {"ack": 7, "args": [5]}


async def test_an_event_by_polling(kind: str, serve: Serve) -> None:
    server = Primacron()

    @server.event("echo")
    def echo(session: Session, text: str) -> None:
        session.emit("echo", text)

    client = await (await serve(server)).poll_in()
    assert (await client.emit("echo", "hé€😀")).text == "ok"
    assert (await client.poll()).text == '4{"event":"echo","args":["hé€😀"]}'
