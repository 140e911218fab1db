"""
Forwarding of client requests that reached a node other than the one with their connection.

The *forwarder* has the client's request, the *owner* its connection. The forwarder repeats
the request under the same id until it is answered; the owner answers a repeated id with the
same answer. So nothing is lost or processed twice, whatever the bus loses.

When a forwarder shuts down, the owners answer the polls that it holds, so that the clients
poll through another node. A retry through another forwarder has another id: the transport
recognizes such repeats.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeAlias

import msgspec

from primacron.cluster.cluster import Cluster
from primacron.cluster.envelope import encode_item
from primacron.cluster.finder import Absence, Finder
from primacron.cluster.items import NIL, AbortForward, Answer, Forward, ForwardStatus, Item, ReleaseForward
from primacron.cluster.outgoing import BulkNote, Dispatch, Fate
from primacron.cluster.registry import SETTLED_AFTER
from primacron.cluster.requests import Pending
from primacron.entries import Entry
from primacron.errors import BadRequest, Overloaded, PayloadTooLarge, PrimacronError, UnknownSid
from primacron.ids import NodeId, Sid
from primacron.sessions.hub import Hub
from primacron.times import Times
from primacron.web import Body, HttpRequest, HttpResponse, internal_error
from primacron.wheel import Alarm

#: Size in bytes from which a body counts as bulk, and may be delayed in favour of other items.
BULK: Final = 16_384
#: Number of forwarded requests that may be in progress at once.
MAX_FORWARDED: Final = 100_000

#: Number of requests whose repeats are recognized after their answers are forgotten.
MAX_OVER: Final = 20_000

_FIELDS: Final = ("origin", "content-type", "accept-encoding", "user-agent")
_PARAMETERS: Final = ("transport", "EIO", "account", "t")

_Answer: TypeAlias = tuple[int, list[tuple[bytes, bytes]], bytes]

#: The outcome for the client: an answer, an error, or None to drop its connection.
Outcome: TypeAlias = HttpResponse | PrimacronError | None


class Forwarder:
    """Both sides of forwarding, for one node."""

    def __init__(
        self,
        hub: Hub,
        cluster: Cluster,
        finder: Finder,
        is_genuine: Callable[[str], bool],
        deliver: Callable[[RemoteExchange], None],
        release: Callable[[RemoteExchange], None],
        run: Callable[[Coroutine[Any, Any, Any]], object],
        times: Times,
    ) -> None:
        self.hub = hub
        self.cluster = cluster
        self.finder = finder
        self.run = run
        self.times = times
        self._is_genuine = is_genuine
        #: Processes a request whose connection is on this node.
        self._deliver = deliver
        #: Answers a poll that this node holds open.
        self._release_poll = release
        #: Whether this node is shutting down, and whether it has left the cluster.
        self.is_ending = False
        self.has_left = False
        self._forwarded: set[ForwardedRequest] = set()
        self._all_back: asyncio.Future[None] | None = None
        self._bytes = 0
        #: Requests forwarded by other nodes that are being processed, by origin and id.
        self._exchanges: dict[tuple[NodeId, int], RemoteExchange] = {}
        #: Answers kept in case their forwarder has not received them, and the last one of each connection and method.
        self._answers: dict[tuple[NodeId, int], RemoteExchange] = {}
        self._last: dict[tuple[Sid, str], tuple[NodeId, int]] = {}
        #: Requests whose answers the client has received, as it sent the next: until when they may still be repeated.
        self._over: dict[tuple[NodeId, int], float] = {}
        #: Total size of those answers in bytes, and the alarm that prunes them.
        self._kept = 0
        self._prunes: Alarm | None = None
        cluster.on(Forward, self._forward)
        cluster.on(ForwardStatus, self._still)
        cluster.on(AbortForward, self._abort)
        cluster.on(ReleaseForward, self._release)
        cluster.on_back.append(self._ask_all)

    # As the forwarder

    def is_elsewhere(self, sid: str) -> bool:
        """Tell whether another node may have a connection that this one does not have."""
        return self._is_genuine(sid)

    def unknown(self, sid: str) -> UnknownSid:
        """Return the error for a connection that no node can have."""
        return UnknownSid()

    def send(self, request: HttpRequest, sid: str, body: bytes, done: Callable[[Outcome], None]) -> ForwardedRequest:
        """
        Forward a request to the node of its connection; the request is trimmed to what that needs.

        Raises:
            Overloaded: if too many are in progress.

        """
        if len(self._forwarded) >= MAX_FORWARDED or self._bytes + len(body) > self.hub.options.outbox_total:
            raise Overloaded("too many requests wait for other servers")
        request.trim(_PARAMETERS)
        forwarded = ForwardedRequest(self, request, Sid(sid), body, done)
        self._forwarded.add(forwarded)
        self._bytes += len(body)
        forwarded.begin()
        return forwarded

    def forget(self, forwarded: ForwardedRequest, size: int) -> None:
        """Remove a request that has been answered."""
        if forwarded in self._forwarded:
            self._forwarded.discard(forwarded)
            self._bytes -= size
            if not self._forwarded and self._all_back is not None and not self._all_back.done():
                self._all_back.set_result(None)

    def finish(self) -> None:
        """Release all polls, and have shutdown wait until all requests are answered."""
        self.is_ending = True
        for forwarded in tuple(self._forwarded):
            forwarded.hasten()
        self.run(self._until_all_are_back())

    async def _until_all_are_back(self) -> None:
        while self._forwarded:
            self._all_back = self.hub.loop.create_future()
            await self._all_back

    def _ask_all(self) -> None:
        """Repeat all requests at once, after the link was down."""
        for forwarded in tuple(self._forwarded):
            forwarded.on_due(self.hub.loop.time())

    # As the owner

    def _forward(self, item: Forward, _: NodeId) -> None:
        key = (item.origin, item.id)
        exchange = self._exchanges.get(key) or self._answers.get(key)
        if exchange is not None:
            exchange.tell()
        elif key in self._over:
            self.cluster.answer(item, "dropped")  # as a poll it would take away what the client's next one waits for
        elif self.hub.connection(item.sid) is None:
            self.cluster.answer(item, "elsewhere")
        else:
            self._forget_last(item.sid, item.method)
            exchange = self._exchanges[key] = RemoteExchange(self, item)
            self._deliver(exchange)

    def _still(self, item: ForwardStatus, _: NodeId) -> None:
        key = (item.origin, item.id)
        exchange = self._exchanges.get(key) or self._answers.get(key)
        if exchange is not None:
            exchange.tell()
        else:
            self.cluster.answer(item, "dropped" if key in self._over else "again")

    def _abort(self, item: AbortForward, _: NodeId) -> None:
        exchange = self._exchanges.pop((item.origin, item.forwarded), None)
        if exchange is not None:
            exchange.lose()

    def _release(self, item: ReleaseForward, _: NodeId) -> None:
        exchange = self._exchanges.get((item.origin, item.forwarded))
        if exchange is not None:
            self._release_poll(exchange)

    def keep(self, exchange: RemoteExchange) -> None:
        """Keep an answer until the next request of its kind or its expiry, within the limit on the total size."""
        key = (exchange.item.origin, exchange.item.id)
        self._exchanges.pop(key, None)
        self._answers[key] = exchange
        self._last[exchange.item.sid, exchange.item.method] = key
        self._kept += exchange.size
        while self._kept > self.hub.options.outbox_total:
            self._forget(next(iter(self._answers)))
        if self._prunes is None:
            self._prunes = self.hub.wheel.alarm(self.times.keep_answer, self._prune)

    def _forget_last(self, sid: Sid, method: str) -> None:
        key = self._last.get((sid, method))
        if key is not None:
            self._forget(key)
            self._end(key)

    def _end(self, key: tuple[NodeId, int]) -> None:
        """Take no more notice of a request, for as long as it may be repeated."""
        now = self.hub.loop.time()
        while self._over and (len(self._over) >= MAX_OVER or next(iter(self._over.values())) < now):
            del self._over[next(iter(self._over))]
        self._over[key] = now + self.times.keep_answer

    def _forget(self, key: tuple[NodeId, int]) -> None:
        exchange = self._answers.pop(key)
        self._kept -= exchange.size
        kind = (exchange.item.sid, exchange.item.method)
        if self._last.get(kind) == key:
            del self._last[kind]

    def _prune(self) -> None:
        """Discard expired answers; the oldest come first."""
        self._prunes = None
        now = self.hub.loop.time()
        for key, exchange in [*self._answers.items()]:
            left = exchange.answered_at + self.times.keep_answer - now
            if left > 0:
                self._prunes = self.hub.wheel.alarm(left, self._prune)
                return
            self._forget(key)


class ForwardedRequest(Pending):
    """A client's request that is forwarded to the node of its connection."""

    __slots__ = (
        "_body",
        "_dispatch",
        "_done",
        "_forwarder",
        "_is_held",
        "_node",
        "_parked_at",
        "_request",
        "_sid",
        "_was_located",
    )

    def __init__(
        self, forwarder: Forwarder, request: HttpRequest, sid: Sid, body: bytes, done: Callable[[Outcome], None]
    ) -> None:
        super().__init__(forwarder.cluster.requests, forwarder.cluster.requests.next_id())
        self._forwarder = forwarder
        self._request = request
        self._sid = sid
        self._body = body
        self._done: Callable[[Outcome], None] | None = done
        self._node: NodeId | None = None
        #: Whether the owner has confirmed that it holds the request.
        self._is_held = False
        #: The outgoing item, until it has been sent to the owner.
        self._dispatch: _ForwardDispatch | None = None
        #: Whether the connection was looked up in the registry.
        self._was_located = False
        #: Since when the request has waited for the link; None if it does not.
        self._parked_at: float | None = None

    def begin(self) -> None:
        """Send the request to the node that issued the sid, as soon as the link is up."""
        self.requests.open(self, self._forwarder.times.forward_again)
        if self._forwarder.cluster.link.is_reachable:
            self._look()
        else:
            self._park()

    def _look(self) -> None:
        """Find the owner, and send it the request."""
        cluster = self._forwarder.cluster
        node = self._forwarder.finder.issuer_of(self._sid)
        if self._was_located:
            self._forwarder.run(self._locate())
        elif node is None:
            self._forwarder.run(self._find_issuer())
        elif node == cluster.node:
            self._forwarder.run(self._locate())
        else:
            self._ask(node)

    async def _find_issuer(self) -> None:
        node = await self._forwarder.finder.find_issuer(self._sid)
        if node is None:
            await self._locate()
        elif self._done is not None:
            self._ask(node)

    @property
    def is_over(self) -> bool:
        """Whether the client has its outcome."""
        return self._done is None

    def abort(self) -> None:
        """Drop the request of a client that has disconnected, and tell the owner unless this node is shutting down."""
        if self._node is not None and not self._forwarder.is_ending:
            cluster = self._forwarder.cluster
            cluster.tell(self._node, AbortForward(self.id, cluster.node))
        self._done = None
        self._finish(None)

    # Sending

    def on_due(self, now: float) -> None:
        """Repeat the request; while the link is down, wait for it, but no longer than the client does."""
        if self._done is None:
            return
        self.requests.open(self, self._forwarder.times.forward_again)
        cluster = self._forwarder.cluster
        if not cluster.link.is_reachable:
            self._park()
            return
        self._parked_at = None
        if self._node is None:
            self._look()
        elif self._is_held or (self._is_bulky and self._dispatch is None):
            # A large body is sent again only if its owner reports that it was not received.
            cluster.tell(self._node, ForwardStatus(self.id, cluster.node))
            self.hasten()
        else:
            self._ask(self._node)

    def hasten(self) -> None:
        """Ask the owner to answer a poll at once, if this node is shutting down."""
        if self._node is not None and self._forwarder.is_ending and self._request.method == "GET":
            cluster = self._forwarder.cluster
            cluster.tell(self._node, ReleaseForward(self.id, cluster.node))

    def _park(self) -> None:
        loop, options = self._forwarder.hub.loop, self._forwarder.hub.options
        if self._parked_at is None:
            self._parked_at = loop.time()
        elif loop.time() - self._parked_at > options.ping_timeout:
            self._fail("the server of the connection cannot be reached")

    def _ask(self, node: NodeId) -> None:
        if self._dispatch is not None and node == self._node:
            return
        self._node = node
        self._is_held = False
        self._dispatch = _BulkForwardDispatch(self) if self._is_bulky else _ForwardDispatch(self)
        self._forwarder.cluster.send(node, self._dispatch)
        self.hasten()

    @property
    def _is_bulky(self) -> bool:
        return len(self._body) >= BULK

    def item(self) -> Item:
        """Return the request as an item for the bus."""
        request = self._request
        headers = {name: request.headers[name] for name in _FIELDS if name in request.headers}
        return Forward(
            self.id,
            self._forwarder.cluster.node,
            self._sid,
            request.method,
            request.path,
            request.query_string,
            headers,
            request.peer,
            request.secure,
            request.host,
            self._body,
        )

    def left(self, dispatch: _ForwardDispatch, fate: Fate) -> None:
        """Handle the fate of the outgoing item."""
        if dispatch is not self._dispatch or self._done is None:
            return
        self._dispatch = None
        if fate is Fate.SENT and self._is_bulky:
            self.requests.open(self, self._forwarder.times.forward_again)  # the time to answer starts now
        elif fate is Fate.GONE:
            self._forwarder.run(self._locate())
        elif fate is Fate.UNSENT and self._forwarder.cluster.link.is_reachable:
            self._fail("too much waits for the server of the connection")

    async def _locate(self) -> None:
        """Look up in the registry where the connection has moved to."""
        self._node = None
        self._was_located = True
        found = await self._forwarder.finder.locate(self._sid)
        if self._done is None or found is Absence.AWAY:
            return
        place = found[1] if isinstance(found, tuple) else found
        if isinstance(place, Entry) and place.node != self._forwarder.cluster.node:
            self._ask(place.node)
        elif isinstance(place, Entry):
            self._finish(BadRequest("the connection was upgraded to websocket"))
        elif place is Absence.UNSURE or self._forwarder.cluster.came_back_within(SETTLED_AFTER):
            self._was_located = False  # its node may not have renewed its lease yet; look again later
        elif place is not Absence.AWAY:
            self._finish(UnknownSid())

    # Answers

    def answered(self, answer: Answer, sender: NodeId | None) -> None:
        """Handle an answer of the owner, or of a node asked before it."""
        if answer.status == "answered":
            status, headers, body = msgspec.msgpack.decode(answer.value, type=_Answer)
            self._finish(HttpResponse(status, body, tuple(headers)))
        elif answer.status == "dropped":
            self._finish(None)
        elif self._node is None or sender != self._node:
            pass  # asked earlier; another node is asked by now
        elif answer.status == "held":
            self._is_held = True
        elif answer.status == "again":
            self._ask(self._node)
        elif answer.status == "elsewhere" and not self._was_located:
            self._forwarder.run(self._locate())
        else:
            self._finish(UnknownSid())

    def gone(self, node: NodeId) -> None:
        """Look up the connection again if its owner's lease has expired."""
        if node == self._node:
            self._forwarder.run(self._locate())

    def end(self, status: str) -> None:
        """Fail the request, as this node is shutting down."""
        self._fail("the server is ending")

    def _fail(self, why: str) -> None:
        """
        Answer the client with the reason for the failure.

        During shutdown its connection is dropped instead, so that proxies retry the request on another node.
        """
        self._finish(None if self._forwarder.is_ending else Overloaded(why))

    def _finish(self, outcome: Outcome) -> None:
        self.requests.close(self)
        self._forwarder.forget(self, len(self._body))
        done, self._done = self._done, None
        if done is not None:
            done(outcome)


class _ForwardDispatch(Dispatch):
    """A forwarded request, as an outgoing item."""

    __slots__ = ("_request",)

    def __init__(self, forwarded: ForwardedRequest) -> None:
        self._request = forwarded

    def encode(self) -> bytes:
        """Encode the item."""
        return encode_item(self._request.item())

    def left(self, fate: Fate, nodes: int) -> None:
        """Pass the fate on."""
        self._request.left(self, fate)


class _BulkForwardDispatch(_ForwardDispatch):
    """A forwarded request with a large body, which may be delayed in favour of other items."""

    __slots__ = ()
    bulk = True


class RemoteExchange:
    """A request forwarded by another node; see :class:`primacron.web.Exchange`."""

    def __init__(self, forwarder: Forwarder, item: Forward) -> None:
        self._forwarder = forwarder
        self._answer: tuple[str, msgspec.Raw] | None = None
        #: Whether a large answer is queued for the forwarder.
        self._is_leaving = False
        self._body = item.body
        #: The request without its large parts, which are not needed while the answer is kept.
        self.item = msgspec.structs.replace(item, query="", headers={}, body=b"")
        self.answered_at = 0.0
        self.on_abort: Callable[[], None] | None = None
        self.request = HttpRequest(item.method, item.path, item.query, item.headers, peer=item.peer, secure=item.secure)
        self.request.host = item.host

    @property
    def size(self) -> int:
        """Size of the answer in bytes."""
        return 0 if self._answer is None else len(bytes(self._answer[1]))

    # For the code that answers

    def respond(self, response: HttpResponse) -> None:
        """Send the answer; does nothing after an abort or an earlier answer."""
        self._settle("answered", msgspec.msgpack.encode((response.status, response.headers, response.body)))

    def receive(self, limit: int, done: Callable[[Body], None]) -> None:
        """Hand over the body, which was received with the request."""
        body, self._body = self._body, b""
        done(body if len(body) <= limit else PayloadTooLarge("the body", limit))

    def abort(self) -> None:
        """Have the forwarder drop the client's connection without an answer."""
        self._settle("dropped", b"\xc0")

    def fail(self, error: Exception) -> None:
        """Report an internal error, and answer with status 500."""
        self._forwarder.hub.receiver.problem(error, request=self.request)
        self.respond(internal_error())

    def _settle(self, status: str, value: bytes) -> None:
        if self._answer is None:
            self._answer = status, msgspec.Raw(value)
            self._body = b""
            self.answered_at = self._forwarder.hub.loop.time()
            self.on_abort = None
            self._forwarder.keep(self)
            self.tell()

    # For the forwarder

    def tell(self) -> None:
        """Send the answer, or confirm that the request is held."""
        status, value = self._answer or ("held", NIL)
        cluster = self._forwarder.cluster
        if len(bytes(value)) < BULK:
            cluster.answer(self.item, status, value)
        elif not self._is_leaving:
            self._is_leaving = True
            cluster.send(self.item.origin, BulkNote(Answer(self.item.id, status, value), self._left))

    def _left(self, _: Fate) -> None:
        self._is_leaving = False

    def lose(self) -> None:
        """Handle the disconnection of the client."""
        on_abort, self.on_abort = self.on_abort, None
        if on_abort is not None:
            on_abort()
