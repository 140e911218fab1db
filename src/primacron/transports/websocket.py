"""Websocket: a new connection, or the upgrade of one on polling."""

from __future__ import annotations

import asyncio
from typing import Any

from primacron.config import TOKEN, Options
from primacron.errors import AlreadyUpgraded, Overloaded, PrimacronError, ProtocolError, UnknownSid
from primacron.handoff.upgrade import IncomingUpgrade
from primacron.ids import Sid
from primacron.node import Admission, Node
from primacron.protocol.close_reasons import INTERNAL, TRANSPORT_ERROR
from primacron.protocol.engine import ENDED
from primacron.sessions.transport import WebSocket
from primacron.transports.connecting import (
    admit,
    check_version,
    find_connection,
    first_packets,
    read_applicant,
    refusal,
)
from primacron.web import HttpRequest, WebSocketExchange


def handle(node: Node, exchange: WebSocketExchange[WebSocket], sid: str | None) -> None:
    """Handle one websocket handshake with ``transport=websocket``."""
    try:
        if "sec-websocket-protocol" in exchange.request.headers:
            choose_subprotocol(exchange.request, node.options)
        if sid is not None:
            _join(node, exchange, sid)
            return
        applicant = read_applicant(node, exchange.request)
        admit(node, exchange, applicant, _open)
    except PrimacronError as error:
        _refuse(node, exchange, error)


def _refuse(node: Node, exchange: WebSocketExchange[WebSocket], error: BaseException) -> None:
    """Refuse a handshake before the 101; if its connection already has a websocket, after it, as clients expect."""
    answer = refusal(node, exchange.request, error)
    if not isinstance(error, AlreadyUpgraded):
        exchange.respond(answer)
        return
    websocket = exchange.accept()
    websocket.write([])
    websocket.close(TRANSPORT_ERROR)


def choose_subprotocol(request: HttpRequest, options: Options) -> str | None:
    """
    Return the subprotocol that a websocket will speak (RFC 6455, 4.2.2); None if the client offers none.

    Browsers drop a websocket if none of their offers was chosen, and hide the reason,
    so the handshake is refused here, where the application learns the reason.

    Raises:
        ProtocolError: if the offer is malformed, or has nothing that the option ``subprotocols`` allows.

    """
    offer = request.headers.get("sec-websocket-protocol")
    if offer is None:
        return None
    names = [name for part in offer.split(",") if (name := part.strip(" \t"))]
    if not all(map(TOKEN.fullmatch, names)):
        raise ProtocolError(f"field 'sec-websocket-protocol': expected names of subprotocols, got {offer[:200]!r}")
    allowed = options.subprotocols
    if allowed is None:
        return names[0] if names else None
    chosen = next((name for name in names if name in allowed), None)
    if chosen is None and names:
        raise ProtocolError(
            f"field 'sec-websocket-protocol' offers {offer[:200]!r}, option 'subprotocols' allows {', '.join(allowed)}"
        )
    return chosen


def _open(node: Node, exchange: WebSocketExchange[WebSocket], admission: Admission) -> None:
    websocket = exchange.accept()
    try:
        connection = node.admissions.open(admission, websocket)
    except Exception:
        websocket.close(INTERNAL)
        raise
    websocket.connection = connection
    websocket.write(first_packets(node, admission, connection))
    node.admissions.opened(connection)


def _join(node: Node, exchange: WebSocketExchange[WebSocket], sid: str) -> None:
    connection = find_connection(node, exchange.request, sid)
    if connection is None:
        Joining(node, exchange, sid)
        return
    if connection.phase in ENDED:
        raise UnknownSid
    if not connection.may_upgrade:
        raise AlreadyUpgraded
    websocket = exchange.accept()
    websocket.connection = connection
    websocket.write([])
    connection.begin_probe(websocket)


class Joining:
    """A websocket for a connection of another node, while that node is being asked."""

    def __init__(self, node: Node, exchange: WebSocketExchange[WebSocket], sid: str) -> None:
        self._node = node
        self._exchange = exchange
        account = exchange.request.query.get("account")
        task = node.run(node.upgrades.ask(Sid(sid), account), self._done)
        if task is not None:
            exchange.on_abort = lambda: self._abort(task)

    @staticmethod
    def _abort(task: asyncio.Task[Any]) -> None:
        task.cancel()

    def _done(self, upgrade: IncomingUpgrade | None, error: BaseException | None) -> None:
        try:
            self._settle(upgrade, error)
        except Exception as failure:  # nothing else would respond
            self._exchange.fail(failure)

    def _settle(self, upgrade: IncomingUpgrade | None, error: BaseException | None) -> None:
        self._exchange.on_abort = None
        if upgrade is not None:
            try:
                check_version(self._exchange.request, upgrade.format)
            except PrimacronError as refused:
                _refuse(self._node, self._exchange, refused)
                return
            websocket = self._exchange.accept()
            upgrade.begin(websocket)
            websocket.write([])
        elif error is not None:
            ending = isinstance(error, asyncio.CancelledError)
            _refuse(self._node, self._exchange, Overloaded("the handshake was cancelled") if ending else error)
