"""The snapshot of a session that is handed off to another node."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from primacron.dialects.choice import Dialects
from primacron.entries import Entry
from primacron.errors import QueryTooLarge
from primacron.ids import AccountId, NodeId, SessionId, Sid
from primacron.protocol.close_reasons import CloseReason, known
from primacron.protocol.engine import Heart, Phase
from primacron.protocol.handshake import find_format
from primacron.protocol.outgoing import OutgoingPacket
from primacron.sessions.connection import Connection
from primacron.sessions.feature_state import FeatureState
from primacron.sessions.hub import Hub
from primacron.sessions.memberships import Memberships
from primacron.sessions.session import Session, read_data
from primacron.sessions.transport import Transport
from primacron.web import Query


class SessionSnapshot(msgspec.Struct, array_like=True):
    """
    A session and its connection, in serializable form.

    ``data`` is the application's. ``outbox`` contains the packets that the client has not
    received (prefix, data, whether binary), ``inbox`` the messages that await their handler
    (whether binary, data). ``heart`` is the state of the heartbeat and ``due`` the seconds
    until its next step. ``features`` is the state of each feature.
    """

    account: AccountId
    session: SessionId
    generation: int
    sid: Sid
    peer: str
    query: str
    version: int
    base64: bool
    data: msgspec.Raw
    outbox: list[tuple[bytes, bytes, bool]]
    inbox: list[tuple[bool, bytes]]
    strikes: int
    heart: str
    due: float | None
    features: dict[str, msgspec.Raw]


def take_snapshot(session: Session, connection: Connection, node: NodeId, now: float) -> SessionSnapshot:
    """Return the snapshot of a session and its connection, taken right before the connection is given away."""
    entry = session.entry
    return SessionSnapshot(
        session.account,
        session.id,
        entry.generation,
        entry.sid,
        session.peer,
        session.query_string,
        connection.format.version,
        connection.format.base64,
        session.pack_data(),
        _pack_packets(connection.outbox or []),
        [] if session.inbox is None else [_pack_message(each) for each in session.inbox.messages()],
        connection.strikes,
        connection.heart.name,
        connection.due - now if connection.due < float("inf") else None,
        dict(_pack_features(session, node, now)),
    )


def _pack_features(session: Session, node: NodeId, now: float) -> Iterator[tuple[str, msgspec.Raw]]:
    for name, state in session.features.items():
        dumped = state if isinstance(state, msgspec.Raw) else state.dump(node, now)
        if dumped is not None:
            yield name, msgspec.Raw(msgspec.msgpack.encode(dumped))


def pack_goodbye(packets: list[OutgoingPacket], reason: CloseReason) -> msgspec.Raw:
    """Pack the last packets of a connection that has ended, with its close reason."""
    return msgspec.Raw(msgspec.msgpack.encode((_pack_packets(packets), reason.text, reason.code)))


def read_goodbye(packed: msgspec.Raw) -> tuple[list[OutgoingPacket], CloseReason]:
    """
    Unpack the last packets and the close reason that :func:`pack_goodbye` has packed.

    Raises:
        ValueError: if it is malformed.

    """
    try:
        packets, text, code = _GOODBYE.decode(packed)
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        raise ValueError(str(error)) from None
    return [OutgoingPacket(prefix, data, binary=binary) for prefix, data, binary in packets], known(text, code)


def last_words(snapshot: SessionSnapshot, dialects: Dialects) -> list[OutgoingPacket]:
    """Return the last packets for the client of a session that another connection replaced during its handoff."""
    goodbye = dialects.choose(Query(snapshot.query)).write_goodbye()
    packets = [OutgoingPacket(prefix, data, binary=binary) for prefix, data, binary in snapshot.outbox]
    return packets if goodbye is None else [*packets, goodbye]


def _pack_packets(packets: list[OutgoingPacket]) -> list[tuple[bytes, bytes, bool]]:
    return [(packet.prefix, packet.data, packet.binary) for packet in packets]


def _pack_message(message: str | bytes) -> tuple[bool, bytes]:
    return (False, message.encode()) if isinstance(message, str) else (True, message)


def messages_of(snapshot: SessionSnapshot) -> list[str | bytes]:
    """Return the messages that await their handler."""
    return [data if binary else data.decode() for binary, data in snapshot.inbox]


def read_snapshot(packed: bytes | msgspec.Raw) -> SessionSnapshot:
    """
    Decode a snapshot from another node.

    Raises:
        ValueError: if it is malformed.

    """
    try:
        return _DECODER.decode(packed)
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        raise ValueError(str(error)) from None


def _read_features(snapshot: SessionSnapshot, kinds: Mapping[str, type[FeatureState]], now: float) -> dict[str, Any]:
    """Decode the state of each feature; that of features unknown to this node is kept as raw bytes."""
    read: dict[str, Any] = {}
    for name, packed in snapshot.features.items():
        if name not in kinds:
            read[name] = msgspec.Raw(bytes(packed))
            continue
        state = read[name] = kinds[name]()
        state.load(packed, now)
    return read


def check_snapshot(snapshot: SessionSnapshot, hub: Hub, dialects: Dialects) -> None:
    """
    Refuse a snapshot that this node could not restore: once the entry is claimed it is too late to refuse.

    Raises:
        ValueError: if its data is not what this server's option ``data`` names, or it is malformed.
        BadRequest: if this server has no such dialect.

    """
    read_data(snapshot.data, hub.options.data)
    _read_features(snapshot, hub.kinds, 0.0)
    try:
        query = Query(snapshot.query)
    except QueryTooLarge as error:
        raise ValueError(str(error)) from None
    dialects.choose(query)
    if snapshot.heart not in Heart.__members__ or snapshot.version not in (4, 3):
        raise ValueError("a connection that no server has")


def restore(
    snapshot: SessionSnapshot,
    hub: Hub,
    dialects: Dialects,
    transport: Transport,
    phase: Phase,
    entry: Entry,
    now: float,
) -> tuple[Session, Connection]:
    """Restore a session and its connection, on this transport and in this phase, from a snapshot that was checked."""
    query = Query(snapshot.query)
    session = Session(hub, snapshot.account, entry, snapshot.peer, snapshot.query, query.get("account"))
    session.unpack_data(snapshot.data)
    session.features.update(_read_features(snapshot, hub.kinds, now))
    dialect = dialects.choose(query)
    memberships = session.peek(Memberships)
    if memberships is not None and memberships.is_aware:
        dialect = dialects.aware(dialect)
    wire_format = find_format(snapshot.version, snapshot.base64)
    connection = Connection(hub, entry.sid, session, transport, dialect, wire_format, phase)
    session.attach(connection)
    connection.strikes = snapshot.strikes
    connection.resume_heart(Heart[snapshot.heart], None if snapshot.due is None else now + snapshot.due)
    for prefix, data, binary in snapshot.outbox:
        connection.send(OutgoingPacket(prefix, data, binary=binary))
    return session, connection


_DECODER = msgspec.msgpack.Decoder(SessionSnapshot)
_GOODBYE = msgspec.msgpack.Decoder(tuple[list[tuple[bytes, bytes, bool]], str, int])
