"""In a storm, clients of the load generator come back to their sessions, or the run is a failure."""

from __future__ import annotations

import json
from typing import Any

from websockets.asyncio.server import ServerConnection

from tests.benchmarks.conftest import Load, LoadFails, plain_server

OPEN = '0{"sid":"x","upgrades":[],"pingInterval":25000,"pingTimeout":20000}'
#: How the clients of a server with tokens speak.
RESUMING = {
    "mode": "storm",
    "hello": '4{"session":{}}',
    "greeting": '4{"token":',
    "proof": '4{"session":{"token":"$","attempt":#}}',
    "proven": '"recovered":true',
}


class Tokens:
    """A server that gives each session a token, and knows those again that it gave."""

    def __init__(self, *, forgets: bool = False) -> None:
        self.given: list[str] = []
        #: What clients said when they came back.
        self.proofs: list[dict[str, Any]] = []
        self._forgets = forgets

    async def serve(self, connection: ServerConnection) -> None:
        await connection.send(OPEN)
        first = json.loads(str(await connection.recv())[1:])["session"]
        if first:
            self.proofs.append(first)
        else:
            self.given.append(f"token-{len(self.given)}")
        token = first.get("token", self.given[-1])
        recovered = bool(first) and not self._forgets
        await connection.send("4" + json.dumps({"token": token, "recovered": recovered}, separators=(",", ":")))
        await connection.wait_closed()


async def test_who_comes_back_in_a_storm_has_the_token_that_it_was_given(load: Load) -> None:
    server = Tokens()
    async with plain_server(server.serve) as port:
        report = await load(port, **RESUMING, clients=20)
    assert report.run.messages == 20
    assert len(server.given) == 20
    assert sorted(proof["token"] for proof in server.proofs) == sorted(server.given)
    assert {proof["attempt"] for proof in server.proofs} == {1}


async def test_who_comes_back_in_a_storm_to_no_session_is_a_failure(load_fails: LoadFails) -> None:
    async with plain_server(Tokens(forgets=True).serve) as port:
        assert "came back to no session" in await load_fails(port, **RESUMING, clients=3)
