"""Requests from other nodes that concern sessions of this one."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias, TypeVar

import msgspec

from primacron.cluster.cluster import Cluster
from primacron.cluster.finder import Absence, Finder
from primacron.cluster.items import (
    ApplyLate,
    Call,
    Disconnect,
    Fence,
    Flush,
    ListSessions,
    Moved,
    SessionOfConnection,
    SessionRequest,
    ToChannels,
    ToFeature,
    ToMany,
    ToSession,
)
from primacron.cluster.outgoing import Fate, Note
from primacron.cluster.requests import UNSENT, UNSUPPORTED
from primacron.entries import Entry
from primacron.errors import CallError
from primacron.ids import NodeId
from primacron.metrics import Metrics
from primacron.receipts import Receipt
from primacron.routing.acts import unpack_act
from primacron.routing.audience import unpack_audience
from primacron.routing.local import Local
from primacron.routing.options import PLAIN, SendOptions
from primacron.routing.per_node import MAX_FOR_ALL
from primacron.routing.reach_counter import CERTAIN, UNCERTAIN
from primacron.routing.reached import Reached
from primacron.routing.router import Router
from primacron.routing.transit import Transits
from primacron.sessions.calls import pack_call_error, pack_value
from primacron.sessions.hub import Hub
from primacron.sessions.recent import Recent

if TYPE_CHECKING:
    from primacron.sessions.session import Session

R = TypeVar("R", bound=SessionRequest)
Act: TypeAlias = Callable[["Session", R], None]

#: Number of times that a request may be passed on.
MAX_HOPS: Final = 2


class Asked(Protocol):
    """A feature that handles requests from other nodes."""

    def asked(self, session: Session, body: msgspec.Raw) -> Coroutine[Any, Any, Receipt]:
        """Carry out another node's request about a session of this one."""


class InboundRequests:
    """Handles requests from other nodes about sessions."""

    def __init__(
        self,
        hub: Hub,
        cluster: Cluster,
        finder: Finder,
        local: Local,
        router: Router,
        metrics: Metrics,
        transits: Transits,
        features: Mapping[str, Asked],
        run: Callable[[Coroutine[Any, Any, Any]], object],
    ) -> None:
        self._router = router
        self._transits = transits
        self._features = features
        self._hub = hub
        self._cluster = cluster
        self._finder = finder
        self._local = local
        self._metrics = metrics
        self._run = run
        cluster.on(ToSession, lambda item, _: self.at_session(item, self._deliver))
        cluster.on(Call, lambda item, _: self.at_session(item, self._call))
        cluster.on(Disconnect, lambda item, _: self.at_session(item, self._disconnect))
        cluster.on(ToFeature, lambda item, _: self.at_session(item, self._ask_feature))
        cluster.on(Flush, lambda item, _: self.at_session(item, self._flush))
        cluster.on(ApplyLate, lambda item, _: self.at_session(item, self._do_late))
        cluster.on(ToMany, self._do_to_many)
        cluster.on(ToChannels, self._do_to_many)
        cluster.on(Fence, lambda item, _: cluster.answer(item, "accepted"))
        cluster.on(ListSessions, self._list_sessions)
        cluster.on(SessionOfConnection, self._tell_session)

    # About one session

    def at_session(self, item: R, act: Act[R]) -> None:
        """Handle a request about one session, or pass it on to the session's node."""
        name = (item.account, item.session)
        session = self._hub.live(name)
        if session is not None and item.generation <= session.entry.generation:
            act(session, item)
            return
        transit = self._transits.get(name)
        if transit is not None and transit.is_full:
            self._metrics.count("messages_late_dropped")
            self._cluster.answer(item, UNSENT)
            return
        if transit is not None:
            transit.hold(lambda entry: self._after_move(item, act, entry), item.size)
            return
        is_unknown = self._hub.sessions.get(*name) is None
        gone = self._cluster.tombstones.get(name, self._hub.loop.time())
        if is_unknown and self._cluster.stood_still:
            # It was delayed while this node stalled, and may be overtaken by later ones sent to another node.
            self._cluster.answer(item, UNSENT)
        elif gone is not None and is_unknown:
            self._pass_on(item, gone)
        else:
            self._run(self._look_for(item, act))

    def _after_move(self, item: R, act: Act[R], entry: Entry | None) -> None:
        if entry is None:
            self._run(self._look_for(item, act))
        elif entry.node == self._cluster.node:
            self.at_session(item, act)
        else:
            self._pass_on(item, entry)

    async def _look_for(self, item: R, act: Act[R]) -> None:
        place = (await self._finder.find(item.account, [item.session]))[item.session]
        session = self._hub.live((item.account, item.session))
        if isinstance(place, Entry) and place.node != self._cluster.node:
            self._pass_on(item, place)
        elif session is not None:
            act(session, item)
        else:
            is_nowhere = isinstance(place, Entry) or place is Absence.UNKNOWN
            self._cluster.answer(item, "unknown_session" if is_nowhere else UNSENT)

    def _pass_on(self, item: SessionRequest, place: Entry) -> None:
        """Pass a request on to the node that now has the session, which answers it; notify the origin of the move."""
        if item.hops >= MAX_HOPS:
            self._cluster.answer(item, UNSENT)
            return

        def left(fate: Fate) -> None:
            if fate is Fate.SENT:
                self._cluster.tell(item.origin, Moved(item.account, item.session))
            elif fate is not Fate.UNSURE:
                self._cluster.answer(item, UNSENT)

        further = msgspec.structs.replace(item, generation=place.generation, hops=item.hops + 1)
        self._cluster.send(place.node, Note(further, left))

    def _deliver(self, session: Session, item: ToSession) -> None:
        options = SendOptions(item.volatile, item.key or None) if item.volatile or item.key else PLAIN
        receipt = self._local.deliver_remote(session, item.content, options)
        self._cluster.answer(item, receipt.status)

    def _do_late(self, session: Session, item: ApplyLate) -> None:
        if session.entry.sid != item.sid:
            return
        try:
            act = unpack_act(item.act)
        except ValueError:
            self._metrics.count("messages_unwritable")
        else:
            serial = (item.sender, item.serial)
            act.apply_late(self._local, serial, session)
            session.demand(Recent).tell_kind(serial, item.kind)

    def _flush(self, _: Session, item: Flush) -> None:
        self._cluster.answer(item, "accepted")

    def _disconnect(self, session: Session, item: Disconnect) -> None:
        session.disconnect(item.reason)
        self._cluster.answer(item, "accepted")

    def _ask_feature(self, session: Session, item: ToFeature) -> None:
        feature = self._features.get(item.feature)
        if feature is None:
            self._cluster.answer(item, UNSUPPORTED)
        else:
            self._run(self._answer_for_feature(item, feature.asked(session, item.body)))

    async def _answer_for_feature(self, item: ToFeature, outcome: Coroutine[Any, Any, Receipt]) -> None:
        self._cluster.answer(item, (await outcome).status)

    def _call(self, session: Session, item: Call) -> None:
        self._run(self._answer_call(session, item))

    async def _answer_call(self, session: Session, item: Call) -> None:
        try:
            args: Sequence[Any] = msgspec.msgpack.decode(item.args, type=list[Any])
            value = pack_value(await session.call(item.event, *args, timeout=item.seconds))
        except CallError as error:
            self._cluster.answer(item, "failed", pack_call_error(error))
        except (TypeError, ValueError, RecursionError) as error:
            self._cluster.answer(item, "refused", msgspec.Raw(msgspec.msgpack.encode(str(error))))
        else:
            self._cluster.answer(item, "acknowledged", value)

    # About many sessions

    def _do_to_many(self, item: ToMany, _: NodeId) -> None:
        try:
            audience, act = unpack_audience(item.audience), unpack_act(item.act)
            if isinstance(item, ToChannels) and not self._router.fanout.is_first(audience, (item.origin, item.serial)):
                return
            # Sent to this node individually: it does not reach the new node of a session that has moved since.
            is_alone = not audience.topics and (not audience.is_everywhere or len(item.act) > MAX_FOR_ALL)
            reached = self._router.apply_here(audience, act, (item.origin, item.serial), is_alone=is_alone)
        except (TypeError, ValueError, RecursionError):
            self._metrics.count("messages_unwritable")
            reached = Reached(0)
        status = CERTAIN if reached.is_certain and not self._cluster.hears_anew() else UNCERTAIN
        self._cluster.answer(item, status, msgspec.Raw(msgspec.msgpack.encode(reached.sessions)))

    def _list_sessions(self, item: ListSessions, _: NodeId) -> None:
        try:
            sessions = unpack_audience(item.audience).sessions(self._hub)
        except ValueError:
            self._cluster.answer(item, UNSUPPORTED)
            return
        names = [(session.account, session.id) for session in sessions]
        self._cluster.answer(item, "accepted", msgspec.Raw(msgspec.msgpack.encode(names)))

    def _tell_session(self, item: SessionOfConnection, _: NodeId) -> None:
        connection = self._hub.connection(item.sid)
        if connection is None:
            self._cluster.answer(item, "unknown_session")
            return
        name = (connection.session.account, connection.session.id)
        self._cluster.answer(item, "accepted", msgspec.Raw(msgspec.msgpack.encode(name)))
