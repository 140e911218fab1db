"""Websocket subprotocols (RFC 6455, 1.9): which of those that a client offers is chosen, and what is no offer."""

from __future__ import annotations

from typing import Any

import pytest

from primacron import Primacron
from primacron.errors import OptionError
from tests.conftest import Serve
from tests.support.hearing import Hearing
from tests.transports.servers import echo_server

FIELD = "Sec-WebSocket-Protocol"
CHOICES: list[tuple[Any, str | None, str | None]] = [
    (None, None, None),
    (None, "chat.v1", "chat.v1"),
    (None, "b ,\ta", "b"),
    (None, ", a,,b", "a"),
    (None, "access_token, eyJhbGciOi.eyJzdWIi.c2lnbg", "access_token"),
    (None, "a, a", "a"),
    (None, "", None),
    (["chat.v1"], None, None),
    (["chat.v1", "chat.v2"], "chat.v2, chat.v1", "chat.v2"),
    (["chat.v1"], "chat.v2, chat.v1", "chat.v1"),
    (["chat.v1"], "", None),
]


@pytest.mark.parametrize(("allowed", "offer", "chosen"), CHOICES)
async def test_the_first_offer_that_is_allowed_is_chosen(
    allowed: Any, offer: str | None, chosen: str | None, kind: str, serve: Serve
) -> None:
    client = await serve(echo_server(subprotocols=allowed))
    headers = {} if offer is None else {FIELD: offer}
    polling = await client.poll_in()
    for query in ("account=a", f"sid={polling.sid}"):
        socket = await client.websocket(query, headers=headers)
        assert socket.response.status == 101
        assert socket.response.headers.get(FIELD.lower()) == chosen
        await socket.close()


@pytest.mark.parametrize("offer", ["a b", "chat/v1", 'a"', "\xe9"])
async def test_a_malformed_offer_is_refused_and_named(offer: str, serve: Serve) -> None:
    server = Primacron()
    errors = Hearing(server, "error::protocol")
    client = await serve(server)
    socket = await client.websocket(headers={FIELD: offer})
    assert (socket.response.status, socket.response.json()["code"]) == (400, 3)
    error, _ = await errors.next_error()
    assert str(error) == socket.response.json()["message"]
    assert str(error) == f"field 'sec-websocket-protocol': expected names of subprotocols, got {offer!r}"


async def test_an_offer_of_which_nothing_is_allowed_is_refused_with_the_option_that_would(
    kind: str, serve: Serve
) -> None:
    server = Primacron(subprotocols=["chat.v1", "chat.v2"])
    errors = Hearing(server, "error::protocol")
    client = await serve(server)
    polling = await client.poll_in()
    for query in ("account=a", f"sid={polling.sid}"):
        socket = await client.websocket(query, headers={FIELD: "chat.v3, CHAT.V1"})
        assert (socket.response.status, socket.response.json()["code"]) == (400, 3)
        error, context = await errors.next_error()
        assert str(error) == socket.response.json()["message"]
        assert "'chat.v3, CHAT.V1', option 'subprotocols' allows chat.v1, chat.v2" in str(error)
        assert context.request is not None
    assert (await polling.emit("x")).text == "ok"


@pytest.mark.parametrize("value", ["chat.v1", [], ["a b"], [""], [1], [None], 5, True])
def test_the_option_takes_a_list_of_names(value: object) -> None:
    with pytest.raises(OptionError, match=r"'subprotocols': expected None or a list of names"):
        Primacron(subprotocols=value)
