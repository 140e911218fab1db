"""The course of a handshake: from the request to a connection, or to a refusal."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from primacron.dialects.choice import resumes
from primacron.errors import (
    BadHandshakeMethod,
    BadRequest,
    OriginRefused,
    Overloaded,
    PrimacronError,
    Refused,
)
from primacron.node import Admission, Applicant, Node
from primacron.protocol.handshake import Format, read_account, read_format
from primacron.protocol.outgoing import OutgoingPacket
from primacron.sessions.connection import Connection
from primacron.transports.cors import cors_headers, reason_headers
from primacron.web import HttpRequest, HttpResponse, json_response

if TYPE_CHECKING:
    from primacron.web import Exchange, WebSocketExchange
    from primacron.wheel import Alarm


def read_applicant(node: Node, request: HttpRequest) -> Applicant:
    """
    Check everything about a handshake that can be checked without asking anybody.

    Raises:
        ProtocolError: naming what Engine.IO does not allow.
        AccountRefused: if the account is not usable.

    """
    if request.method != "GET":
        raise BadHandshakeMethod(request.method)
    wire_format = read_format(request.query, node.options.protocols)
    return Applicant(request, read_account(request.query), wire_format, node.dialects.choose(request.query))


def find_connection(node: Node, request: HttpRequest, sid: str) -> Connection | None:
    """
    Return the connection that a request belongs to; None if another node may have it.

    Raises:
        UnknownSid: if there is none.
        BadRequest: if the account or the protocol differs from that of the handshake.

    """
    if sid not in node.hub.connections and node.forwarder.is_elsewhere(sid):
        return None
    connection = node.hub.connection(sid)
    if connection is None:
        raise node.forwarder.unknown(sid)
    account = request.query.get("account")
    if account is not None and account != connection.session.claimed_account:
        raise BadRequest("the account is not that of the handshake")
    check_version(request, connection.format)
    return connection


def check_version(request: HttpRequest, wire_format: Format) -> None:
    """
    Refuse a request whose protocol differs from its connection's; one that names none passes.

    Raises:
        BadRequest: naming both.

    """
    eio = request.query.get("EIO")
    if eio is not None and eio != wire_format.eio:
        raise BadRequest(f"EIO={eio[:20]}, the handshake had EIO={wire_format.eio}")


def refusal(node: Node, request: HttpRequest, error: BaseException) -> HttpResponse:
    """Report an error to the application, and return the response for the client."""
    if isinstance(error, PrimacronError) and error.event is not None:
        node.application.problem(error, request=request)
        status, code = error.http_status, error.engine_code
        message = str(error) if error.shown is None else error.shown
    else:
        if isinstance(error, Exception):
            node.application.problem(error, request=request)
        status, code, message = 500, 3, "internal error"
    headers = reason_headers(request) if isinstance(error, OriginRefused) else cors_headers(request, node.options)
    return json_response(status, {"code": code, "message": message}, *headers)


def first_packets(node: Node, admission: Admission, connection: Connection) -> list[OutgoingPacket]:
    """Return the first packets of a new connection: the open packet and, on request, its session."""
    packets = [node.open_packets.encode(connection.sid, connection.transport.name)]
    if resumes(admission.applicant.request.query):
        session = connection.session
        about = connection.dialect.write_session(session.account, session.id)
        if about is not None:
            packets.append(about)
    return packets


def admit(
    node: Node,
    exchange: Exchange | WebSocketExchange[Any],
    applicant: Applicant,
    accept: Callable[[Node, Any, Admission], None],
) -> None:
    """
    Admit an applicant, at once or after asking the application and the registry, or refuse it.

    Raises:
        Refused: if it is refused at once.

    """
    if node.admissions.asks_nobody:
        accept(node, exchange, node.admissions.admit_now(applicant))
    else:
        Admitting(node, exchange, applicant, accept)


class Admitting:
    """One handshake while the application and the registry are being asked."""

    __slots__ = ("_accept", "_alarm", "_applicant", "_exchange", "_is_answered", "_node", "_task")

    def __init__(
        self,
        node: Node,
        exchange: Exchange | WebSocketExchange[Any],
        applicant: Applicant,
        accept: Callable[[Node, Any, Admission], None],
    ) -> None:
        self._node = node
        self._exchange = exchange
        self._accept = accept
        self._applicant = applicant
        self._is_answered = False
        self._alarm: Alarm | None = None
        self._task = node.run(node.admissions.admit(applicant), self._done)
        if self._task is not None:
            self._alarm = node.hub.wheel.alarm(node.options.handshake_timeout, self._time_out)
            exchange.on_abort = self._abort

    def _abort(self) -> None:
        self._is_answered = True
        # A claim already sent takes effect regardless: its answer tells which connection it replaced.
        if self._task is not None and not self._applicant.is_claiming:
            self._task.cancel()

    def _time_out(self) -> None:
        """Respond at once: the application's code may take a while to stop."""
        self._exchange.on_abort = None
        self._abort()
        seconds = self._node.options.handshake_timeout
        self._refuse(Overloaded(f"the handshake took longer than {seconds:g} s (option 'handshake_timeout')"))

    def _done(self, admission: Admission | None, error: BaseException | None) -> None:
        try:
            self._settle(admission, error)
        except Exception as failure:  # nothing else would respond
            self._exchange.fail(failure)

    def _settle(self, admission: Admission | None, error: BaseException | None) -> None:
        if self._alarm is not None:
            self._node.hub.wheel.cancel(self._alarm)
        self._exchange.on_abort = None
        if admission is None:
            cancelled = isinstance(error, asyncio.CancelledError)
            if error is not None and not (cancelled and self._is_answered):
                self._refuse(Overloaded("the handshake was cancelled") if cancelled else error)
        elif self._is_answered:
            self._node.admissions.withdraw(admission)
        else:
            self._open(admission)

    def _open(self, admission: Admission) -> None:
        try:
            self._node.admissions.confirm(admission)
        except Refused as error:
            self._node.admissions.withdraw(admission)
            self._refuse(error)
        else:
            self._accept(self._node, self._exchange, admission)

    def _refuse(self, error: BaseException) -> None:
        """Report the refusal to the application, and to the client if it is still waiting."""
        self._exchange.respond(refusal(self._node, self._exchange.request, error))
