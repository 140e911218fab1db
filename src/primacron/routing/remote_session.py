"""
Sends to single sessions of other nodes.

A send to a session whose location is known goes out at the end of the tick. One that needs
a lookup goes out afterwards, and holds back later ones to the same account, so that order is
preserved.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final

import msgspec

from primacron.cluster.cluster import Cluster
from primacron.cluster.errors import BackendUnavailable
from primacron.cluster.finder import Absence, Finder, Place
from primacron.cluster.items import (
    NO_ID,
    Answer,
    Call,
    Disconnect,
    Flush,
    Moved,
    Reply,
    Request,
    SessionOfConnection,
    ToFeature,
)
from primacron.cluster.outgoing import Dispatch, Fate
from primacron.cluster.requests import NODE_GONE as NODE_GONE_STATUS
from primacron.cluster.requests import TIMED_OUT as TIMED_OUT_STATUS
from primacron.cluster.requests import UNSENT as UNSENT_STATUS
from primacron.cluster.requests import UNSUPPORTED
from primacron.cluster.sends import PLAIN_END, SendEncoder, encode_end
from primacron.content import Content, pack_values
from primacron.entries import Entry, Name
from primacron.errors import CallError, CallTimedOut, SessionGone, SessionUnreachable
from primacron.ids import AccountId, NodeId, Sid
from primacron.receipts import (
    ACCEPTED,
    NODE_GONE,
    NODE_LOST,
    REFUSED,
    TIMED_OUT,
    UNKNOWN_SESSION,
    UNSENT,
    Delivery,
    Receipt,
)
from primacron.routing.local import Local
from primacron.routing.options import PLAIN, SendOptions
from primacron.routing.transit import Transit, Transits
from primacron.sessions.calls import unpack_call_error, unpack_value
from primacron.sessions.hub import Hub

if TYPE_CHECKING:
    from primacron.sessions.calls import Answer as CallAnswer
    from primacron.sessions.session import Session

#: The receipt for each status of the session's node, or of a missing answer.
RECEIPTS: Final = {
    "accepted": ACCEPTED,
    "unknown_session": UNKNOWN_SESSION,
    "refused": REFUSED,
    UNSUPPORTED: REFUSED,
    UNSENT_STATUS: UNSENT,
    NODE_GONE_STATUS: NODE_LOST,
    TIMED_OUT_STATUS: TIMED_OUT,
}
_BY_FATE: Final = {Fate.NOBODY: UNSENT, Fate.GONE: NODE_GONE, Fate.UNSENT: UNSENT}
_BY_ABSENCE: Final = {
    Absence.UNKNOWN: UNKNOWN_SESSION,
    Absence.GONE: NODE_GONE,
    Absence.UNSURE: UNSENT,
    Absence.AWAY: UNSENT,
}

#: Maximum number of sends that await lookups.
MAX_HELD: Final = 100_000
#: Maximum number of sessions in one lookup.
MAX_LOOKUP: Final = 500
#: Maximum size in bytes of content for another node.
MAX_CONTENT: Final = 64_000_000


class SessionSend(Dispatch):
    """A send to one session."""

    __slots__ = ("_content", "_delivery", "_entry", "_is_found", "_options", "_request", "_sender", "name")

    def __init__(
        self, sender: RemoteSender, name: Name, content: bytes, options: SendOptions, delivery: Delivery[Receipt]
    ) -> None:
        self.name = name
        self._sender = sender
        self._content = content
        self._options = options
        self._delivery = delivery
        self._entry: Entry | None = None
        #: Whether the location was looked up for this send, rather than taken from the cache.
        self._is_found = False
        self._request = NO_ID

    def aim(self, entry: Entry, *, found: bool) -> NodeId:
        """Set the destination, and return its node."""
        self._entry = entry
        self._is_found = found
        return entry.node

    def encode(self) -> bytes:
        """Encode the send, and open a request if its receipt is wanted."""
        entry, cluster = self._entry, self._sender.cluster
        assert entry is not None
        if self._delivery.wanted:
            self._request = cluster.requests.ask(entry.node, self._sender.receipt_timeout, self._settled)
        options = self._options
        end = PLAIN_END if options is PLAIN else encode_end(volatile=options.volatile, key=options.key)
        return self._sender.encoder.encode(
            self._request, cluster.locations.address(self.name, entry), self._content, end
        )

    def left(self, fate: Fate, nodes: int) -> None:
        """Handle the fate: look up again after an outdated location, or settle the receipt."""
        if fate is Fate.SENT:
            return
        if fate in _BY_FATE:
            self._sender.cluster.requests.drop(self._request)
        if fate is Fate.NOBODY and not self._is_found:
            # The cached location is out of date.
            self._sender.cluster.locations.drop(self.name)
            self._sender.hold(self)
        elif fate in _BY_FATE:
            self.fail(_BY_FATE[fate])

    def fail(self, outcome: Receipt) -> None:
        """Settle the receipt of a send that was not delivered, and report it."""
        if not self._delivery.done():
            self._delivery.settle(outcome)
            self._sender.report(self._delivery, outcome, self.name)

    def wait_for(self, transit: Transit) -> None:
        """Hold the send until the session's transit has ended."""
        if transit.is_full:
            self._sender.cluster.loop.call_soon(self.fail, UNSENT)
        else:
            transit.hold(self.go, len(self._content))

    def deliver_here(self, local: Local, session: Session) -> None:
        """Deliver it to a session of this node."""
        self._delivery.settle(local.deliver_remote(session, self._content, self._options))

    def go(self, entry: Entry | None) -> None:
        """Send to where the session has moved to; look it up if that is not known."""
        if entry is None or self._sender.holds(self.name[0]):
            self._sender.hold(self)
        elif not self._sender.deliver_here(self):
            self._sender.cluster.send(self.aim(entry, found=True), self)

    def _settled(self, answer: Answer) -> None:
        if answer.status == "unknown_session":
            self._sender.cluster.locations.drop(self.name)
        self._delivery.settle(RECEIPTS.get(answer.status, REFUSED))


class RemoteSender:
    """Sends to sessions of other nodes, and looks up where they are."""

    def __init__(
        self,
        hub: Hub,
        cluster: Cluster,
        finder: Finder,
        local: Local,
        transits: Transits,
        run: Callable[[Coroutine[Any, Any, Any]], object],
    ) -> None:
        self.cluster = cluster
        self.report = hub.report
        self.receipt_timeout = hub.options.receipt_timeout
        self.encoder = SendEncoder(cluster.node)
        self._hub = hub
        self._finder = finder
        self._transits = transits
        self._local = local
        self._run = run
        self._held: dict[AccountId, deque[SessionSend]] = {}
        self._held_count = 0
        #: Futures that sends to an account have to await before their lookup.
        self._fences: dict[AccountId, list[asyncio.Future[Any]]] = {}
        #: Futures of requests that queue behind the held sends to an account.
        self._behind: dict[AccountId, list[asyncio.Future[None]]] = {}
        cluster.on(Moved, self._moved)

    # To one session

    def holds(self, account: AccountId) -> bool:
        """Tell whether sends to an account are held for a lookup."""
        return account in self._held

    def to_session(self, name: Name, content: Content, options: SendOptions, *, receipt: bool) -> Delivery[Receipt]:
        """Send to a session that is not known to be on this node; see :meth:`Router.to_session`."""
        if self._local.restricts:
            self._local.check(content)
        packed = content.pack(self._hub.encoding)
        delivery: Delivery[Receipt] = self._hub.delivery(requested=receipt)
        send = SessionSend(self, name, packed, options, delivery)
        if name in options.left_out:
            delivery.settle(UNSENT)
        elif len(packed) > MAX_CONTENT:
            self._hub.loop.call_soon(send.fail, REFUSED)
        elif (transit := self._transits.get(name)) is not None:
            send.wait_for(transit)
        elif self.holds(name[0]):
            self.hold(send)
        elif not self.cluster.link.is_reachable:
            self._hub.loop.call_soon(send.fail, UNSENT)
        elif (entry := self.cluster.locations.get(name, self._hub.loop.time())) is not None:
            self.cluster.send(send.aim(entry, found=False), send)
        else:
            self.hold(send)
        return delivery

    def hold(self, send: SessionSend) -> None:
        """Hold a send until its session has been looked up."""
        account = send.name[0]
        if self._held_count >= MAX_HELD:
            self._hub.loop.call_soon(send.fail, UNSENT)
            return
        self._held_count += 1
        self._hold_back(account).append(send)

    def _hold_back(self, account: AccountId) -> deque[SessionSend]:
        held = self._held.get(account)
        if held is None:
            held = self._held[account] = deque()
            # In a later tick: the sender may request the receipt until the end of this one.
            self._hub.loop.call_soon(lambda: self._run(self._find_held(account)))
        return held

    async def _find_held(self, account: AccountId) -> None:
        held = self._held[account]
        try:
            while held or account in self._fences:
                if account in self._fences:
                    await asyncio.wait(self._fences.pop(account))
                    continue
                wanted = dict.fromkeys(send.name[1] for send in held)
                places = await self._finder.find(account, [*wanted][:MAX_LOOKUP])
                while held and (place := places.get(held[0].name[1])) is not None:
                    if self._would_overtake(held[0].name, place):
                        break
                    self._held_count -= 1
                    self._leave(held.popleft(), place)
        finally:
            del self._held[account]
            self._fences.pop(account, None)
            for left in self._behind.pop(account, ()):
                if not left.done():
                    left.set_result(None)
            self._held_count -= len(held)
            for send in held:
                send.fail(UNSENT)

    def deliver_here(self, send: SessionSend) -> bool:
        """Deliver a held send if its session is on this node by now."""
        session = self._hub.live(send.name)
        if session is None:
            return False
        send.deliver_here(self._local, session)
        return True

    def _leave(self, send: SessionSend, place: Place) -> None:
        if self.deliver_here(send):
            return
        if (transit := self._transits.get(send.name)) is not None:
            send.wait_for(transit)
        elif isinstance(place, Absence):
            send.fail(_BY_ABSENCE[place])
        elif place.node == self.cluster.node:
            send.fail(UNKNOWN_SESSION)  # it has just ended
        else:
            self.cluster.locations.put(send.name, place, self._hub.loop.time())
            self.cluster.send(send.aim(place, found=True), send)

    # Sessions that have moved: sends to the new node must not overtake those to the old one

    def _moved(self, item: Moved, sender: NodeId) -> None:
        """Stop sending through a node that has passed a send on, once everything sent through it has arrived."""
        name = (item.account, item.session)
        locations, now = self.cluster.locations, self._hub.loop.time()
        place = locations.get(name, now)
        if place is None or place.node != sender:
            return
        locations.drop(name)
        locations.take_left(name, now)
        self._flush(name, place)

    def _would_overtake(self, name: Name, place: Place) -> bool:
        """Tell whether a session has moved since it was last sent to; if so, hold back sends to it."""
        left = self.cluster.locations.take_left(name, self._hub.loop.time())
        if left is None or not isinstance(place, Entry) or left.node == place.node or self.cluster.is_gone(left.node):
            return False
        self._flush(name, left)
        return True

    def _flush(self, name: Name, earlier: Entry) -> None:
        """Hold back sends to a session until everything sent to its previous node has arrived."""

        def make(number: int) -> Request:
            return Flush(number, self.cluster.node, *name, earlier.generation, 0)

        passed: asyncio.Future[None] = self._hub.loop.create_future()
        self.cluster.ask(earlier.node, make, self.receipt_timeout, lambda _: passed.set_result(None))
        self._fence(name[0], passed)

    def catch_up(self, name: Name, passed: asyncio.Future[None]) -> None:
        """Hold back sends to a session that has arrived on this node, if its previous node was sent any."""
        locations, now = self.cluster.locations, self._hub.loop.time()
        locations.drop(name)
        was_sent_to = locations.take_left(name, now) is not None
        if was_sent_to or self.holds(name[0]):
            self._fence(name[0], passed)

    def _fence(self, account: AccountId, passed: asyncio.Future[None]) -> None:
        self._fences.setdefault(account, []).append(passed)
        self._hold_back(account)

    # Other requests

    async def call(self, name: Name, event: str, args: tuple[Any, ...], seconds: float) -> Any:
        """Send an event to a session of another node and return its client's answer; see :meth:`Session.call`."""
        packed = pack_values(args, self._hub.encoding)

        def make(entry: Entry, number: int) -> Request:
            return Call(number, self.cluster.node, *name, entry.generation, 0, event, packed, seconds)

        answer = await self._ask(name, make, seconds + self.receipt_timeout)
        if isinstance(answer, Absence):
            raise _unreached(name, _BY_ABSENCE[answer])
        if answer.status == "acknowledged":
            return unpack_value(answer.value)
        if answer.status == "failed":
            raise unpack_call_error(answer.value, event, name[1])
        if answer.status == "refused":
            raise ValueError(msgspec.msgpack.decode(answer.value, type=str))
        if answer.status == TIMED_OUT_STATUS:
            raise CallTimedOut(event, "no answer from the session's server")
        raise _unreached(name, RECEIPTS.get(answer.status, REFUSED))

    async def _ask(self, name: Name, make: Callable[[Entry, int], Request], seconds: float) -> Answer | Absence:
        """Send a request about a session to its node; return the answer, or why there is no such node."""
        while self.holds(name[0]):  # earlier sends go out first
            left: asyncio.Future[None] = self._hub.loop.create_future()
            self._behind.setdefault(name[0], []).append(left)
            await left
        transit = self._transits.get(name)
        place: Place | None = None if transit is None else await transit.outcome()
        if place is None and (place := self.cluster.locations.get(name, self._hub.loop.time())) is not None:
            answer = await self._ask_at(name, place, make, seconds)
            if answer.status != UNSENT_STATUS:
                return answer
            place = None  # the cached location is out of date
        if place is None:
            place = (await self._finder.find(name[0], [name[1]]))[name[1]]
        if self._would_overtake(name, place):
            return await self._ask(name, make, seconds)
        if not isinstance(place, Entry):
            return place
        self.cluster.locations.put(name, place, self._hub.loop.time())
        return await self._ask_at(name, place, make, seconds)

    async def _ask_at(self, name: Name, entry: Entry, make: Callable[[Entry, int], Request], seconds: float) -> Answer:
        answer = await self.cluster.asked(entry.node, lambda number: make(entry, number), seconds)
        if answer.status in ("unknown_session", UNSENT_STATUS, NODE_GONE_STATUS):
            self.cluster.locations.drop(name)
        return answer

    def relay(self, name: Name, node: NodeId, number: int, answer: CallAnswer) -> None:
        """Relay a client's answer to the node that made the call."""
        refusal = answer.refusal
        error = None if refusal is None else (refusal.type, refusal.message, refusal.path)
        try:
            packed = pack_values(answer.args)
        except ValueError as cause:
            packed, error = pack_values(()), ("refused", str(cause), "")
        self.cluster.tell(node, Reply(*name, number, packed, error))

    def disconnect(self, name: Name, reason: str) -> Delivery[Receipt]:
        """Close the connection of a session of another node."""
        delivery: Delivery[Receipt] = self._hub.delivery(requested=False)
        self._run(self._disconnect(name, reason, delivery))
        return delivery

    async def _disconnect(self, name: Name, reason: str, delivery: Delivery[Receipt]) -> None:
        def make(entry: Entry, number: int) -> Request:
            return Disconnect(number, self.cluster.node, *name, entry.generation, 0, reason)

        delivery.settle(await self._request(name, make))

    async def ask(self, name: Name, feature: str, body: msgspec.Raw) -> Receipt:
        """Send a request to a feature of the session's node, and return the outcome."""

        def make(entry: Entry, number: int) -> Request:
            return ToFeature(number, self.cluster.node, *name, entry.generation, 0, feature, body)

        return await self._request(name, make)

    async def _request(self, name: Name, make: Callable[[Entry, int], Request]) -> Receipt:
        """Send a request about a session to its node, and return the outcome as a receipt."""
        answer = await self._ask(name, make, self.receipt_timeout)
        return _BY_ABSENCE[answer] if isinstance(answer, Absence) else RECEIPTS.get(answer.status, REFUSED)

    async def find(self, name: Name) -> Entry | None:
        """Return the entry of a session of another node; raise if that cannot be determined now."""
        place = (await self._finder.find(name[0], [name[1]]))[name[1]]
        if place in (Absence.AWAY, Absence.UNSURE):
            raise BackendUnavailable(place.value)
        return place if isinstance(place, Entry) else None

    async def entries(self, account: AccountId) -> list[Entry]:
        """Return the entries of an account's sessions on all nodes; raise if they may be incomplete."""
        entries, is_certain = await self._finder.sessions(account)
        if not is_certain:
            raise BackendUnavailable("the registry may not know all sessions yet")
        return entries

    async def session_of(self, sid: Sid) -> Name | Receipt:
        """Ask the node that issued the sid for the connection's session; then the registry."""
        node = await self._finder.find_issuer(sid)
        if node is not None and node != self.cluster.node:
            answer = await self.cluster.asked(
                node, lambda id_: SessionOfConnection(id_, self.cluster.node, sid), self.receipt_timeout
            )
            if answer.status == "accepted":
                name: Name = msgspec.msgpack.decode(answer.value, type=Name)
                return name
            if answer.status != "unknown_session":
                # Nothing was sent, so non-delivery is certain.
                return NODE_GONE if answer.status == NODE_GONE_STATUS else UNSENT
        found = await self._finder.locate(sid)
        return _BY_ABSENCE[found] if isinstance(found, Absence) else found[0]


def _unreached(name: Name, receipt: Receipt) -> CallError:
    """Return the error for a call that did not reach its session."""
    # A node whose lease had expired before took its sessions with it; one whose lease expires now may only be late.
    if receipt in (UNKNOWN_SESSION, NODE_GONE):
        return SessionGone(name[1])
    return SessionUnreachable(name[1], receipt.status, certain=receipt.certain)
