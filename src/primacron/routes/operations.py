"""The routes for operators: the PUT endpoint, liveness and readiness."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import UNSET, UnsetType

from primacron.config import LIVEZ, READYZ
from primacron.content import Message
from primacron.dialects.halves import judge_undecodable
from primacron.errors import (
    InvalidMessage,
    MessageError,
    NotListening,
    PayloadTooLarge,
    Refused,
    UndecodableMessage,
    UnsupportedEncoding,
)
from primacron.features.channels import ChannelTarget
from primacron.receipts import UNSENT, Reach, Receipt
from primacron.version import VERSION
from primacron.web import Body, Exchange, HttpRequest, HttpResponse, demand_plain_body, json_response

if TYPE_CHECKING:
    from primacron.server import Server

_POWERED: Final = (b"X-Powered-By", f"Primacron/v{VERSION}".encode())
_CHALLENGE: Final = (b"WWW-Authenticate", b"Bearer")
_STATUS: Final = {
    "accepted": 200,
    "acknowledged": 200,
    "unknown_session": 404,
    "refused": 413,
    "unsent": 503,
    "node_gone": 504,
    "timed_out": 504,
}
_SENDING: Final = "Sending the message to the spark"
_NOT_FOUND: Final = "The spark was not found: no session has this id"
_DESCRIPTIONS: Final = {
    "accepted": ("sending", _SENDING),
    "unknown_session": ("unknown socket", _NOT_FOUND),
    "refused": ("too large", "The message is over a limit of the session"),
    "unsent": ("unsent", "The message could not be sent"),
    "node_gone": ("node gone", "The server of the session has died"),
    "timed_out": ("timed out", "The server of the session did not answer in time"),
}


class _Put(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a PUT: a message, and one of five targets."""

    message: Any
    id: str | UnsetType = UNSET
    account: str | UnsetType = UNSET
    session: str | UnsetType = UNSET
    channel: str | UnsetType = UNSET
    everyone: bool | UnsetType = UNSET


_DECODER: Final = msgspec.json.Decoder(_Put)


class Operations:
    """Answers the routes for operators."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._options = server.options

    def is_health(self, path: str) -> bool:
        """Tell whether a path is one of the health routes, which need no secret."""
        return path in (LIVEZ, READYZ)

    def is_broadcast(self, request: HttpRequest) -> bool:
        """Tell whether a request is for the PUT endpoint."""
        return request.method == "PUT" and request.path == self._options.broadcast_path

    def is_authorized(self, request: HttpRequest) -> bool:
        """Compare the bearer token with each secret, in constant time."""
        given = (request.bearer or "").encode("latin-1")
        matches = [hmac.compare_digest(given, secret.encode()) for secret in self._server.secrets]
        return any(matches)

    # Health

    def answer_health(self, request: HttpRequest) -> HttpResponse:
        """Answer liveness (always 200) or readiness (503, with the reasons for those who know the secret)."""
        if request.method not in ("GET", "HEAD"):
            return _described(400, "bad request", f"Bad request: method {request.method}, expected GET or HEAD")
        if request.path == LIVEZ:
            return json_response(200, {"live": True})
        reasons = self._server.unready()
        fields: dict[str, Any] = {"ready": not reasons}
        if self.is_authorized(request):
            fields |= {"reasons": reasons, **self._server.details()}
        return json_response(503 if reasons else 200, fields)

    # PUT

    def take_broadcast(self, exchange: Exchange) -> None:
        """Send a message submitted by another process of the back end."""
        request = exchange.request
        if not self.is_authorized(request):
            self._server.problem(Refused(401, "the secret is missing or wrong"), request=request)
            text = "Give the secret as Authorization: Bearer"
            exchange.respond(_described(401, "unauthorized", text, headers=(_POWERED, _CHALLENGE)))
            return
        try:
            demand_plain_body(request)
        except UnsupportedEncoding as error:
            self._server.problem(error, request=request)
            exchange.respond(_described(415, "unsupported encoding", str(error), headers=(_POWERED,)))
            return
        exchange.receive(self._options.max_payload, lambda body: self._take_body(exchange, body))

    def _take_body(self, exchange: Exchange, body: Body) -> None:
        def done(response: HttpResponse | None, error: BaseException | None) -> None:
            if response is not None:
                exchange.respond(response)
            elif isinstance(error, Exception):
                exchange.fail(error)
            else:
                exchange.respond(_described(503, "unavailable", "The server is ending", headers=(_POWERED,)))

        try:
            node = self._server.node
        except NotListening:  # the server shut down while the body was arriving
            exchange.respond(_received(UNSENT))
        else:
            node.run(self._answer(exchange.request, body), done)

    async def _answer(self, request: HttpRequest, body: Body) -> HttpResponse:
        if isinstance(body, PayloadTooLarge):
            self._server.problem(body, request=request)
            return _described(413, "too large", str(body), headers=(_POWERED,))
        raw = body.decode("utf-8", "replace")
        try:
            put = _read(body)
            try:
                return await self._send(put, request.headers.get("idempotency-key"))
            except (TypeError, ValueError, RecursionError) as error:  # not every dialect can encode all JSON
                raise InvalidMessage(f"message: {error}") from None
        except UndecodableMessage as error:
            self._server.problem(error, request=request, message=raw)
            return _described(400, "broken", f"Received an incorrect JSON document: {error}", headers=(_POWERED,))
        except InvalidMessage as error:
            self._server.problem(error, request=request, message=raw)
            return _described(400, "invalid", f"Received an invalid packet: {error}", headers=(_POWERED,))

    async def _send(self, put: _Put, key: str | None) -> HttpResponse:
        server, content = self._server, Message.of(put.message)
        if put.everyone is True:
            return _reached(await server.everyone.send(content, key=key))
        if isinstance(put.channel, str):
            return _reached(await self._channel(put.channel).send(content, key=key))
        if isinstance(put.id, str):
            target = await server.session_of(put.id)
            return _received(target if isinstance(target, Receipt) else await target.send(content, key=key))
        account = str(put.account)
        if isinstance(put.session, str):
            return _received(await server.session(account, put.session).send(content, key=key))
        return _reached(await server.account(account).send(content, key=key))

    def _channel(self, name: str) -> ChannelTarget:
        try:
            return self._server.channel(name)
        except ValueError as error:
            raise InvalidMessage(str(error)) from None


def _read(body: bytes) -> _Put:
    try:
        put = _DECODER.decode(body)
    except msgspec.ValidationError as error:
        try:
            msgspec.json.decode(body, type=msgspec.Raw)
        except (msgspec.DecodeError, RecursionError, UnicodeError) as broken:
            raise _judge(body, broken) from None
        raise InvalidMessage(str(error)) from None
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        raise _judge(body, error) from None
    given = {name for name in ("id", "account", "session", "channel", "everyone") if getattr(put, name) is not UNSET}
    if given not in ({"id"}, {"account"}, {"account", "session"}, {"channel"}, {"everyone"}) or put.everyone is False:
        raise InvalidMessage(
            'the target is one of "id", "account", "account" and "session", "channel", or "everyone": true'
        )
    return put


def _judge(body: bytes, error: Exception) -> MessageError:
    try:
        return judge_undecodable(body.decode(), error)[0]
    except UnicodeDecodeError:
        return UndecodableMessage(str(error))


def _received(receipt: Receipt) -> HttpResponse:
    kind, text = _DESCRIPTIONS[receipt.status]
    extra = {"receipt": receipt.status, "certain": receipt.certain}
    return _described(_STATUS[receipt.status], kind, text, extra, headers=(_POWERED,))


def _reached(reach: Reach) -> HttpResponse:
    extra: dict[str, object] = {"nodes": reach.nodes, "sessions": reach.sessions, "certain": reach.certain}
    if reach.position is not None:
        extra |= {"epoch": reach.position.epoch, "offset": reach.position.offset}
    if reach.status != "accepted":
        return _described(_STATUS[reach.status], *_DESCRIPTIONS[reach.status], extra, headers=(_POWERED,))
    return _described(200, "sending", "Sending the message to the sparks", extra, headers=(_POWERED,))


def _described(
    status: int,
    kind: str,
    text: str,
    extra: Mapping[str, object] | None = None,
    *,
    headers: tuple[tuple[bytes, bytes], ...] = (),
) -> HttpResponse:
    return json_response(status, {"status": status, "type": kind, "description": text, **(extra or {})}, *headers)
