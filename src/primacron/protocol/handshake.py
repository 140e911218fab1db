"""The query of an Engine.IO request, and the open packet that answers a handshake."""

from __future__ import annotations

import json
from dataclasses import dataclass

from primacron.config import Options
from primacron.errors import AccountRefused, BadRequest, UnknownTransport, UnsupportedVersion
from primacron.ids import AccountId, is_usable_id
from primacron.protocol.engine import Symbol
from primacron.protocol.outgoing import OPEN, OutgoingPacket
from primacron.web import Query


class TransportName(Symbol):
    """The transports, by their names on the wire."""

    POLLING = "polling"
    WEBSOCKET = "websocket"


_TRANSPORTS = {transport.value: transport for transport in TransportName}


@dataclass(frozen=True, slots=True)
class Format:
    """How packets are encoded for one client: its protocol, and whether binary data is sent as base64."""

    version: int
    base64: bool

    @property
    def eio(self) -> str:
        """The protocol, as spelled in the query."""
        return "4" if self.version == 4 else "3"


V4 = Format(4, False)
_FORMATS = {(4, False): V4, (4, True): Format(4, True), (3, False): Format(3, False), (3, True): Format(3, True)}


def find_format(version: int, base64: bool) -> Format:
    """Return the shared Format of a protocol and a choice of base64."""
    return _FORMATS[version, base64]


def read_transport(query: Query, offered: tuple[str, ...]) -> TransportName:
    """
    Return the transport that a request names.

    Raises:
        UnknownTransport: if it is missing, repeated or not offered.
        BadRequest: if the client asks for JSONP.

    """
    name = query.get("transport")
    if name not in offered or "transport" in query.repeated:
        raise UnknownTransport(name, offered, repeated="transport" in query.repeated)
    if "j" in query:
        raise BadRequest("JSONP (parameter 'j') is not offered")
    return _TRANSPORTS[name]


def read_sid(query: Query) -> str | None:
    """
    Return the sid of a request; None for a handshake.

    Raises:
        BadRequest: if it is given more than once.

    """
    if "sid" in query.repeated:
        raise BadRequest("sid is given more than once")
    return query.get("sid")


def read_format(query: Query, offered: tuple[int, ...]) -> Format:
    """
    Return the protocol and the binary encoding that a handshake asks for.

    Raises:
        UnsupportedVersion: if ``EIO`` is missing, repeated or not offered.

    """
    wanted = query.get("EIO")
    for version in offered:
        if wanted == str(version) and "EIO" not in query.repeated:
            return _FORMATS[version, query.get("b64") in ("1", "true")]
    raise UnsupportedVersion(wanted, offered, repeated="EIO" in query.repeated)


def read_account(query: Query) -> AccountId:
    """
    Return the account that a handshake names.

    Raises:
        AccountRefused: if there is not exactly one valid ``account``.

    """
    account = query.get("account")
    if account is None:
        raise AccountRefused("is missing")
    if "account" in query.repeated:
        raise AccountRefused("is given more than once")
    if not is_usable_id(account):
        raise AccountRefused("is not usable")
    return AccountId(account)


class OpenPackets:
    """Encodes open packets; the part common to all connections is encoded once."""

    __slots__ = ("_tails",)

    def __init__(self, options: Options) -> None:
        offers_websocket = "websocket" in options.transports
        self._tails = {
            TransportName.POLLING: _tail(options, ["websocket"] if offers_websocket else []),
            TransportName.WEBSOCKET: _tail(options, []),
        }

    def encode(self, sid: str, transport: TransportName) -> OutgoingPacket:
        """Return the open packet of a new connection."""
        return OutgoingPacket(OPEN, b'{"sid":"%b"%b' % (sid.encode("ascii"), self._tails[transport]))


def _tail(options: Options, upgrades: list[str]) -> bytes:
    fields = {
        "upgrades": upgrades,
        "pingInterval": round(options.ping_interval * 1000),
        "pingTimeout": round(options.ping_timeout * 1000),
        "maxPayload": options.max_payload,
    }
    return b"," + json.dumps(fields, separators=(",", ":")).encode()[1:]
