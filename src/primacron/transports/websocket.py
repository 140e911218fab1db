"""Websocket: a connection of its own, or the upgrade of one on polling."""

from __future__ import annotations

from primacron.errors import BadRequest, PrimacronError, UnknownSid
from primacron.node import Admission, Node
from primacron.protocol.engine import ENDED, Phase
from primacron.protocol.handshake import TransportName
from primacron.sessions.carrier import Wire
from primacron.transports.admission import Admitting, find_connection, first_packets, read_applicant, refusal
from primacron.web import WebSocketExchange


def handle(node: Node, exchange: WebSocketExchange[Wire], sid: str | None) -> None:
    """Take one websocket handshake with ``transport=websocket``."""
    try:
        if sid is not None:
            _join(node, exchange, sid)
            return
        applicant = read_applicant(node, exchange.request)
        Admitting(node, exchange, applicant, lambda admission: _open(node, exchange, admission))
    except PrimacronError as error:
        exchange.respond(refusal(node, exchange.request, error))


def _open(node: Node, exchange: WebSocketExchange[Wire], admission: Admission) -> None:
    wire = exchange.accept()
    connection = wire.connection = node.open(admission, wire, Phase.WEBSOCKET)
    wire.write(first_packets(node, admission, connection, TransportName.WEBSOCKET))
    node.application.opened(connection.session)


def _join(node: Node, exchange: WebSocketExchange[Wire], sid: str) -> None:
    connection = find_connection(node, exchange.request, sid)
    if connection.phase in ENDED:
        raise UnknownSid
    if connection.phase is not Phase.POLLING or connection.probe is not None:
        raise BadRequest("the connection is not on polling, or another websocket is taking it over")
    wire = exchange.accept()
    wire.connection = connection
    wire.write([])
    connection.begin_probe(wire)
