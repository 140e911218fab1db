"""The official clients in channels: of Engine.IO they join by themselves, of Primus the server lets them."""

from __future__ import annotations

from primacron import Primacron, Session
from tests.conftest import Serve
from tests.support.node import run_node

HEARD = [
    {"ack": 1, "args": [{"channel": "lot:7"}]},
    {"ack": 2, "error": {"type": "validation", "message": "Expected `int`, got `str`", "path": "number"}},
    {"event": "bid", "args": ["a", 5], "channel": "lot:7"},
    {"ack": 3, "args": []},
    {"ack": 4, "args": []},
]


async def test_official_clients_are_in_channels(kind: str, serve: Serve) -> None:
    server = Primacron()

    @server.channels("lot:{number}")
    async def come_in(session: Session, number: int) -> None: ...

    @server.event("bid")
    def bid(session: Session, cents: int) -> None:
        server.channel("lot:7").emit("bid", session.account, cents)

    @server.event("enter")
    async def enter(session: Session) -> None:
        await session.join("lot:7")

    client = await serve(server)
    *engines, primus = await run_node("channels.mjs", client.port)
    assert len(engines) == 6
    assert {result["kind"]: result["heard"] for result in engines} == {result["kind"]: HEARD for result in engines}
    assert primus["heard"] == ["a", 5]
