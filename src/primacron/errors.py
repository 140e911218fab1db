"""
Everything that can go wrong, in one tree.

Each class says how it appears outside: the server event that applications can
listen to (``event``), the status of an HTTP response (``http_status``), the code in
an Engine.IO error body (``engine_code``) and the code of a websocket close frame
(``close_code``). A class builds its own message; callers pass values.
"""

from __future__ import annotations

from typing import ClassVar, Final

from primacron.spelling import did_you_mean


class PrimacronError(Exception):
    """Base of all errors of this library."""

    event: ClassVar[str | None] = None
    #: The text shown to a client that is refused; None means the error's own message.
    shown: str | None = "internal error"
    http_status: int = 500
    engine_code: int = 3
    close_code: ClassVar[int] = 1011

    @property
    def kind(self) -> str:
        """Short name of the error on the wire: ``validation`` for ``error::validation``."""
        return (self.event or "error::internal").removeprefix("error::")


# Mistakes of the application, raised where they are made.


class OptionError(PrimacronError, ValueError):
    """An option is unknown, of the wrong type or out of range."""

    def __init__(self, option: str, expected: str, got: object) -> None:
        super().__init__(f"option {option!r}: expected {expected}, got {got!r}")
        self.option = option


class UnknownOption(OptionError):
    """There is no option of this name."""

    def __init__(self, option: str, known: list[str]) -> None:
        hint = did_you_mean(option, known)
        PrimacronError.__init__(self, f"unknown option {option!r}{hint or ';'} known are {', '.join(known)}")
        self.option = option


class RegistrationError(PrimacronError, TypeError):
    """A validator, handler or hook cannot be registered as it is."""


class ReceiptNotRequested(PrimacronError, RuntimeError):
    """The outcome of a send was asked for after its tick had ended."""

    def __init__(self) -> None:
        super().__init__(
            "this send left without asking for a receipt: await it in the tick that made it, or pass receipt=True"
        )


class WrongThread(PrimacronError, RuntimeError):
    """A method of the server was called from a thread other than that of its event loop."""

    def __init__(self, method: str) -> None:
        super().__init__(
            f"{method} was called from another thread; "
            "use server.from_thread(function, *args), which runs the function in the server's own"
        )


class WrongLoop(PrimacronError, RuntimeError):
    """The server was started in another event loop, which is still open."""

    def __init__(self) -> None:
        super().__init__(
            "the server was started in another event loop, and belongs to that one until it is destroyed there"
        )


class SessionMoved(PrimacronError, RuntimeError):
    """A session was used on a server that it has moved away from."""

    def __init__(self, session: str) -> None:
        super().__init__(f"session {session} has moved to another server, and its data with it")


class NotListening(PrimacronError, RuntimeError):
    """The server has no address yet, or no longer has one."""

    def __init__(self) -> None:
        super().__init__("the server is not listening: call listen() or run() first")


# Mistakes of a client.


class ProtocolError(PrimacronError):
    """A violation of Engine.IO, websocket or HTTP."""

    event = "error::protocol"
    shown = None
    http_status = 400
    close_code = 1002


class UnknownTransport(ProtocolError):
    """The ``transport`` parameter is missing, repeated or not offered."""

    engine_code = 0

    def __init__(self, transport: str | None, offered: tuple[str, ...], *, repeated: bool = False) -> None:
        super().__init__(
            f"Transport unknown: parameter 'transport' is {_came(transport, repeated)}, expected one of"
            f" {', '.join(offered)} (option 'transports')"
        )
        self.transport = transport


class UnknownSid(ProtocolError):
    """No live connection has this sid."""

    engine_code = 1

    def __init__(self, *, foreign: bool = False) -> None:
        hint = " (from another process? Give Primacron a Redis)" if foreign else ""
        super().__init__(f"Session ID unknown{hint}")


class BadHandshakeMethod(ProtocolError):
    """A handshake must be a GET."""

    engine_code = 2

    def __init__(self, method: str) -> None:
        super().__init__(f"Bad handshake method: {method} without a sid, expected GET")
        self.method = method


class BadRequest(ProtocolError):
    """The request is not valid for this connection; the message says why."""

    def __init__(self, why: str) -> None:
        super().__init__(f"Bad request: {why}")


class AlreadyUpgraded(BadRequest):
    """A websocket for a connection that is no longer on polling, or is already being upgraded by another one."""

    def __init__(self) -> None:
        super().__init__("the connection is not on polling, or another websocket is taking it over")


class QueryTooLarge(BadRequest):
    """The query of a request is longer than ``max_query``, or has too many parameters."""

    def __init__(self, limit: str, came: int) -> None:
        super().__init__(f"the query may have {limit}, and has {came}")


class UnsupportedVersion(ProtocolError):
    """The ``EIO`` parameter is missing or names a protocol that is not offered."""

    engine_code = 5

    def __init__(self, version: str | None, offered: tuple[int, ...], *, repeated: bool = False) -> None:
        super().__init__(
            f"Unsupported protocol version: parameter 'EIO' is {_came(version, repeated)}, expected one of"
            f" {', '.join(map(str, offered))} (option 'protocols')"
        )
        self.version = version


class PayloadTooLarge(ProtocolError):
    """A message, a POST body or a PUT body exceeds its limit."""

    http_status = 413
    close_code = 1009

    def __init__(self, what: str, limit: int) -> None:
        super().__init__(f"{what} is larger than {limit} bytes (option 'max_payload')")
        self.limit = limit


class UnsupportedEncoding(ProtocolError):
    """The body of a request is compressed."""

    http_status = 415

    def __init__(self, encoding: str) -> None:
        super().__init__(
            f"field 'content-encoding': expected none, got {encoding[:100]!r}; bodies are read as they are"
        )


class FrameError(ProtocolError):
    """A websocket frame that RFC 6455 or RFC 7692 forbids; ``code`` is sent in the close frame."""

    def __init__(self, code: int, why: str) -> None:
        super().__init__(why)
        self.code = code


class TooMuchInput(FrameError):
    """All clients together hold more unfinished input than ``input_total``, and this one holds the most."""

    event = "error::limit"
    http_status = 503
    close_code = 1013

    def __init__(self, waiting: int, limit: int) -> None:
        super().__init__(1013, f"{waiting} bytes of unfinished input, option 'input_total' allows {limit}")
        self.limit = limit


class Refused(PrimacronError):
    """
    A request that is turned away. Applications raise it in ``authorize`` and in handlers.

    ``status`` is the HTTP status of the response (400 to 599), ``message`` its text.
    """

    event = "error::refused"
    shown: str | None = None
    close_code = 1008

    def __init__(self, status: int = 403, message: str = "Forbidden", *, engine_code: int = 4) -> None:
        if not isinstance(status, int) or not 400 <= status <= 599:
            raise ValueError(f"status of a refusal: expected 400 to 599, got {status!r}")
        super().__init__(message)
        self.http_status = status
        self.engine_code = engine_code


class AccountRefused(Refused):
    """The ``account`` parameter is missing, repeated, or not 1 to 128 characters without control characters."""

    def __init__(self, what: str) -> None:
        super().__init__(
            400,
            f"account {what}: the query has to have exactly one, of 1 to 128 characters without controls",
            engine_code=3,
        )


class OriginRefused(Refused):
    """
    The origin of the page is not among the ``origins``.

    The page's browser lets it read the reason. So the client is told only what it
    already knows: ``told`` replaces ``allowed`` in what it reads.
    """

    def __init__(self, came: str, allowed: str, told: str) -> None:
        super().__init__(400, f"{came} may not connect, option 'origins' allows {allowed}", engine_code=3)
        self.shown = f"{came} may not connect, option 'origins' allows {told}"


class OriginCheckFailed(PrimacronError):
    """The application's ``origins`` function raised; the cause is what it raised."""

    event = "error::handler"

    def __init__(self) -> None:
        super().__init__("the function of option 'origins' failed")


class Overloaded(Refused):
    """There is no capacity, or no registry, for another connection now."""

    def __init__(self, what: str) -> None:
        super().__init__(503, what, engine_code=3)


class TooManyRequests(Refused):
    """One address opened too many connections, or opens them too fast."""

    def __init__(self, what: str) -> None:
        super().__init__(429, what, engine_code=3)


class SessionTaken(Refused):
    """Another connection holds the session id, and ``same_session`` is ``refuse``."""

    def __init__(self, session: str) -> None:
        super().__init__(409, f"session {session!r} is taken (option 'same_session')", engine_code=3)


class MessageError(PrimacronError):
    """A message that is not delivered to the application; ``id`` is where an error answer goes, if known."""

    path: str = ""
    id: int | None = None


class UndecodableMessage(MessageError):
    """The message is not JSON, or not MessagePack."""

    event = "error::json"


class InvalidMessage(MessageError):
    """The message was decoded but is not an envelope."""

    event = "error::invalid"


class SocketIoClient(InvalidMessage):
    """A Socket.IO client, which can connect to this server but not talk to it."""

    def __init__(self) -> None:
        super().__init__(
            "this is Primacron, which speaks Engine.IO with events of its own, not Socket.IO: "
            "connect with engine.io-client in the place of socket.io-client"
        )


class ValidationFailed(MessageError):
    """No validator, wrong arity, or a value that was refused; ``path`` is where, as ``$[0].cents``."""

    event = "error::validation"

    def __init__(self, message: str, path: str = "") -> None:
        super().__init__(message)
        self.path = path


class UnknownEvent(ValidationFailed):
    """No validator is registered for the event."""

    def __init__(self, name: str) -> None:
        super().__init__(f"no validator for the event {name!r}")
        self.name = name


class LimitExceeded(PrimacronError):
    """A limit was reached."""

    event = "error::limit"

    def __init__(self, what: str, limit: int) -> None:
        super().__init__(f"{what}: the limit is {limit}")
        self.limit = limit


class TooManyChannels(LimitExceeded):
    """A session is in as many channels as it may be."""

    def __init__(self, limit: int) -> None:
        super().__init__("channels of one session", limit)


class ChannelNameTooLong(LimitExceeded):
    """The name of a channel has too many bytes."""

    def __init__(self, limit: int) -> None:
        super().__init__("bytes of the name of a channel", limit)


class OutOfDescriptors(LimitExceeded):
    """The process has hardly any file descriptors left; no clients are accepted until there are more."""

    def __init__(self, limit: int) -> None:
        super().__init__("hardly any file descriptors are left, and clients wait to be accepted", limit)


class SlowClient(PrimacronError):
    """A client fell so far behind that it was disconnected."""

    event = "error::slow"
    close_code = 1013

    def __init__(self, waiting: int, limit: int) -> None:
        super().__init__(f"{waiting} bytes wait for the client, the limit is {limit}")
        self.waiting = waiting
        self.limit = limit


# Failures of the application's own code or of the other servers.


class HandlerTimedOut(PrimacronError, TimeoutError):
    """A handler or validator exceeded its time limit."""

    event = "error::handler"

    def __init__(self, what: str, seconds: float) -> None:
        super().__init__(f"{what} took longer than {seconds:g} s")


class HandlerExited(PrimacronError, RuntimeError):
    """Application code raised what would end the program, such as ``sys.exit()``; the server keeps running."""

    event = "error::handler"

    def __init__(self, raised: BaseException) -> None:
        super().__init__(
            f"{type(raised).__name__}({str(raised)!r}) was raised in the application's code: it does not end the "
            "server, `await server.destroy()` does"
        )


class HookUndecided(PrimacronError, TypeError):
    """A hook returned neither yes nor no, usually for want of a ``return``; this counts as no."""

    event = "error::handler"
    shown = "Forbidden"
    http_status = 403
    engine_code = 4

    def __init__(self, hook: str, verdict: object, expected: str) -> None:
        super().__init__(f"{hook} returned {verdict!r}, which refuses: return {expected}; False or Refused says no")


class InfoTooLarge(PrimacronError, ValueError):
    """What the other members of a channel are to see of one of them is too large."""

    event = "error::handler"

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(f"the info of a member has {size} bytes of MessagePack, the limit is {limit}")


class ForwardFailed(PrimacronError):
    """A message could not be forwarded to its session."""

    event = "error::forward"

    def __init__(self, status: str, target: str) -> None:
        super().__init__(f"message to {target}: {status}")
        self.status = status


class ConnectFailed(PrimacronError):
    """The registry could not store a session, so the other servers cannot find it."""

    event = "error::connect"
    http_status = 503
    close_code = 1013

    def __init__(self, session: str) -> None:
        super().__init__(f"the registry did not store session {session}")


class DisconnectFailed(PrimacronError):
    """The registry could not remove a session."""

    event = "error::disconnect"

    def __init__(self, session: str) -> None:
        super().__init__(f"the registry did not remove session {session}")


# Outcomes of a call to a client.


class CallError(PrimacronError):
    """A call was not answered by the client."""


class CallTimedOut(CallError, TimeoutError):
    """The client did not answer within the deadline."""

    def __init__(self, event: str, why: str) -> None:
        super().__init__(f"call of {event!r}: {why}")


class CallRefused(CallError):
    """The client answered with an error; ``type``, ``message`` and ``path`` are as sent."""

    def __init__(self, type: str, message: str, path: str) -> None:
        super().__init__(f"{type}: {message}" + (f" at {path}" if path else ""))
        self.type = type
        self.message = message
        self.path = path


class SessionGone(CallError):
    """There is no such session, or it ended before the client answered; this is certain."""

    def __init__(self, session: str) -> None:
        super().__init__(f"session {session} is gone")


class SessionUnreachable(CallError):
    """
    The session's server could not be asked; whether the session is alive is unknown.

    ``status`` and ``certain`` are as in the receipt of a send: ``unsent`` is certain,
    the client was not asked; with ``node_gone`` it may have been.
    """

    def __init__(self, session: str, status: str, *, certain: bool) -> None:
        client = "its client was not asked" if certain else "its client may have been asked"
        super().__init__(f"session {session} cannot be reached, and may be alive: {status}, {client}")
        self.session = session
        self.status = status
        self.certain = certain


def _came(value: str | None, repeated: bool) -> str:
    if value is None:
        return "missing"
    return "given more than once" if repeated else repr(value[:100])


ERROR_EVENTS: Final = {
    "error::connect": "the registry could not store a session (critical: the other servers cannot find it)",
    "error::disconnect": "the registry could not remove a session",
    "error::json": "a message or PUT body that cannot be decoded",
    "error::invalid": "decoded, but not an object, or a malformed envelope",
    "error::validation": "no validator, wrong arity, or refused",
    "error::protocol": "a violation of Engine.IO, websocket or HTTP",
    "error::refused": "a handshake, PUT or control request that was turned away",
    "error::forward": "a message that did not get through",
    "error::handler": "application code raised or ran out of time",
    "error::slow": "a client fell too far behind and was closed",
    "error::limit": "a limit refused something",
    "error::bus": "the link to the other servers went down or came back",
}
