"""A node's view of its cluster: who the other nodes are, and how to reach them."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from primacron.cluster.backend import Backend
from primacron.cluster.envelope import Unsupported, decode_item
from primacron.cluster.errors import BackendUnavailable, CommandRefused, RightsMissing
from primacron.cluster.incoming import Incoming
from primacron.cluster.items import NIL, NO_ID, VERSION, Answer, Confirm, Item, Request, TopicFence
from primacron.cluster.kept import Published
from primacron.cluster.link import Event, Link, LinkBack, LinkLost, State
from primacron.cluster.locations import Locations
from primacron.cluster.loop_watchdog import Watchdog
from primacron.cluster.membership import Membership, Residents
from primacron.cluster.outgoing import BulkNote, Dispatch, Fate, Note, Outgoing
from primacron.cluster.registry import SETTLED_AFTER, Epoch, Lease
from primacron.cluster.requests import TIMED_OUT, UNSENT, UNSUPPORTED, Requests, Settled
from primacron.cluster.topic_traffic import IncomingByTopic, OutgoingByTopic
from primacron.cluster.topics import TopicChanged
from primacron.config import Options
from primacron.entries import Entry, Name
from primacron.ids import Keyring, NodeId
from primacron.metrics import Metrics
from primacron.times import Times
from primacron.wheel import Alarm, Wheel

I = TypeVar("I", bound=Item)  # noqa: E741
_First = TypeVar("_First")
_Second = TypeVar("_Second")

#: Seconds before the membership is restarted after an unexpected failure.
STAY_AGAIN: Final = 0.5
#: Seconds between permission checks while the backend's permissions are in doubt.
CHECK_EVERY: Final = 5.0
#: Number of keys remembered after a command on them was refused.
MAX_TOLD: Final = 1_000


class Cluster:
    """
    The other nodes, as seen by this one.

    ``on`` registers the handlers of items from other nodes, by kind; ``kinds`` are those of the sets of sessions.
    """

    def __init__(
        self,
        node: NodeId,
        hint: str,
        backend: Backend,
        keyring: Keyring,
        options: Options,
        loop: asyncio.AbstractEventLoop,
        wheel: Wheel,
        metrics: Metrics,
        problem: Callable[[Exception], None],
        times: Times,
        kinds: tuple[str, ...] = (),
    ) -> None:
        self.node = node
        self.registry = backend.registry
        self.registry.kinds = kinds
        self.sets = backend.sets
        self.topics = backend.topics
        self.lists = backend.lists
        self.bus = backend.bus
        self._close = backend.close
        self._open_again = backend.again
        self._place = backend.place
        self._watchdog: Watchdog | None = None
        self.loop = loop
        self.wheel = wheel
        self.link = Link(self._link_changed)
        self.requests = Requests(wheel)
        self.outgoing = Outgoing(node, backend.bus, loop, wheel, max_waiting=options.outbox_total)
        self.outgoing_by_topic = OutgoingByTopic(node, backend.topics, loop, max_unanswered=options.outbox_total)
        #: Where sessions of other nodes are.
        self.locations = Locations(overtaken=options.receipt_timeout)
        #: Where sessions have gone that used to be here.
        self.tombstones = Locations(options.timeout)
        #: Called with nodes whose lease has expired.
        self.on_fallen: list[Callable[[set[NodeId]], None]] = []
        #: Called when the leases of all nodes have been read.
        self.on_leases: list[Callable[[], None]] = []
        #: Called with each topic that is now received (True), or no longer (False).
        self.on_topic: list[TopicChanged] = []
        #: Called with the topic of a list, and what was appended to it.
        self.on_published: list[Callable[[str, Published], None]] = []
        #: Called when the link is up again.
        self.on_back: list[Callable[[], None]] = []
        self._hint = hint
        self._keyring = keyring
        self._options = options
        self._metrics = metrics
        self._problem = problem
        self._times = times
        self.outgoing.attending = lambda: len(self.attending())
        self._incoming = Incoming(node, loop, metrics, self._take, self._confirm, options.probe)
        self._incoming_by_topic = IncomingByTopic(node, metrics, self._take, self._published)
        self._handlers: dict[type[Item], Callable[[Any, NodeId], None]] = {
            Answer: self._take_answer,
            Confirm: lambda confirm, sender: self.outgoing.confirmed(sender, confirm),
            TopicFence: lambda fence, _: self._pass(fence),
        }
        self._membership: Membership
        self._running: asyncio.Task[None] | None = None
        #: Whether this node may have sessions; :meth:`quit_later` resets it some time after the last one.
        self._attends = False
        #: When what is sent to all was last received again after an interruption.
        self._heard_again_at = -math.inf
        self._checking: asyncio.Task[None] | None = None
        #: Set when the backend's permissions are in doubt, and what was found to be missing.
        self._doubts = asyncio.Event()
        self._lacking: RightsMissing | None = None
        #: Keys of refused commands, and until when no more is reported of them.
        self._told: dict[str, float] = {}
        self.registry.on_refused = self._refused
        self._quits: Alarm | None = None
        self._serials = itertools.count(1)
        self._lost_at: float | None = None
        self._back_at: float | None = None
        #: When this node was started, and how often it has lost subscriptions to topics and has them again.
        self._started = self._rebuilt = 0
        self.address = ""
        self.is_draining = False

    def on(self, kind: type[I], handler: Callable[[I, NodeId], None]) -> None:
        """Register the handler of a kind of item; it receives the item and the node that sent it."""
        self._handlers[kind] = handler

    # Lifecycle

    async def join(self, residents: Residents, started: int) -> None:
        """Join the cluster; while the backend is away, joining completes in the background."""
        self._started = started
        self._membership = Membership(
            self.node,
            self.registry,
            self.bus,
            self.link,
            residents,
            self._keyring,
            self._describe,
            self._fallen,
            self._deafened,
            self._renewed,
            self._learned,
            lease=self._options.lease,
            times=self._times,
        )
        if self._open_again is not None:
            self._watchdog = Watchdog(self.node, self._open_again, self._options.lease, self._problem)
            self._watchdog.start()
        await self.bus.join(self.node, self._incoming.hear, self._hearing_changed)
        await self.topics.join(self.node, self._incoming_by_topic.hear, self._topic_changed)
        await self._membership.renew()
        if self.link.is_reachable:
            await self._check_rights()
        self._running = self.loop.create_task(self._stay())
        self._checking = self.loop.create_task(self._keep_checking())

    async def _stay(self) -> None:
        """Maintain the membership; an unexpected error is reported and does not end it."""
        while True:
            try:
                await self._membership.run()
            except ExceptionGroup as group:
                for error in group.exceptions:
                    self._problem(error)
            await asyncio.sleep(STAY_AGAIN)

    async def leave(self) -> None:
        """Leave the cluster."""
        tasks = {task for task in (self._running, self._checking) if task is not None}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        if self._watchdog is not None:
            await self._watchdog.stop()
        with contextlib.suppress(BackendUnavailable):
            await self._membership.retire()
        # In this order: what is still queued is certainly unsent, and what has been sent will not be answered any more.
        self.outgoing.close()
        self.requests.close_all(TIMED_OUT)
        await self.topics.leave()
        await self.bus.leave()
        await self._close()

    def _renewed(self, lease: Lease, keys: Sequence[bytes], candidate: bytes) -> None:
        if self._watchdog is not None:
            self._watchdog.renewed(lease, keys, candidate)

    def _learned(self) -> None:
        for function in self.on_leases:
            function()

    def _describe(self) -> Lease:
        return Lease(
            address=self.address,
            version=VERSION,
            started=self._started,
            hint=self._hint,
            draining=self.is_draining,
            deaf=self.link.state is State.DEAF,
            complete=self._membership.complete,
            attends=self._attends,
            lasts=self._options.lease,
            rebuilt=self._rebuilt,
        )

    # Refused commands and missing permissions

    def _refused(self, refused: CommandRefused) -> None:
        """Report a refused command, at most once a minute per key."""
        now = self.loop.time()
        self._doubts.set()
        if self._told.get(refused.key, 0.0) > now:
            return
        if len(self._told) >= MAX_TOLD:
            self._told.clear()
        self._told[refused.key] = now + self._times.tell_again
        self._problem(refused)

    async def _keep_checking(self) -> None:
        """Check the backend's permissions whenever they are in doubt."""
        while True:
            await asyncio.sleep(CHECK_EVERY)
            await self._doubts.wait()
            if self.link.is_reachable:
                await self._check_rights()

    async def _check_rights(self) -> None:
        self._doubts.clear()
        try:
            lacking = await self.registry.check()
        except BackendUnavailable:
            self._doubts.set()
            return
        if lacking is not None:
            self._doubts.set()
            if self._lacking is None or self._lacking.names != lacking.names:
                self._problem(lacking)
        self._lacking = lacking

    # The link

    def _hearing_changed(self, hearing: bool) -> None:
        if hearing and self._attends:
            self._heard_again_at = self.loop.time()
        self.link.step(Event.HEARD if hearing else Event.SILENT, "no message arrived for too long")

    def _link_changed(self, before: State, why: str) -> None:
        state = self.link.state
        self.outgoing.open = self.outgoing_by_topic.open = self.link.is_reachable
        if before is State.AWAY:
            self._doubts.set()
        if state is State.AWAY:
            self.outgoing.close()
        if state is State.UP:
            self._is_back()
        elif (state is State.AWAY or before is State.UP) and self._lost_at is None:
            self._lost_at = self.loop.time()
            self._problem(LinkLost(why))
        if State.DEAF in (state, before):
            self._membership.renew_soon()

    def _is_back(self) -> None:
        if self._lost_at is not None:
            self._back_at = self.loop.time()
            seconds = self._back_at - self._lost_at
            self._lost_at = None
            self._problem(LinkBack(seconds))
            for function in self.on_back:
                function()

    def why_unready(self) -> str | None:
        """Return why this node's place in the cluster keeps it from being ready, or None."""
        lacking = None if self._lacking is None else str(self._lacking)
        if self.link.state is not State.UP:
            why = f"the link to the other servers: {self.link.state.value}"
            return why if lacking is None else f"{why}; {lacking}"
        if not self.topics.is_complete:
            return "the link to the other servers: not all channels are heard yet"
        refused = self._incoming.refused()
        if refused:
            nodes = ", ".join(refused)
            return f"the link to the other servers: something sent in the name of node {nodes} hides its messages"
        return lacking

    @property
    def reach(self) -> str:
        """Who can find the sessions of this process, and whether the backend answers, for people to read."""
        if self.link.is_reachable:
            return f"{self._place} answers"
        accepted = "accepted" if self._options.without_redis == "accept" else "refused"
        return f"{self._place} does not answer, and new clients are {accepted} meanwhile"

    def details(self) -> dict[str, object]:
        """Return details for operators: this node's id, the number of nodes, the state of the link."""
        return {"node": self.node, "nodes": 1 + len(self.others()), "link": self.link.state.name.lower()}

    # The others

    def lives(self, node: NodeId) -> Lease | None:
        """Return a node's lease, or None unless it is live."""
        return self._membership.leases.get(node, self.loop.time())

    def knows(self, node: NodeId) -> bool:
        """Tell whether a node has a lease, live or expired."""
        return self._membership.leases.knows(node)

    def is_gone(self, node: NodeId) -> bool:
        """Tell whether a node's lease has expired, and not merely for lack of a backend to renew it with."""
        return self.lives(node) is None and self.is_settled(SETTLED_AFTER)

    def by_hint(self, hint: str) -> NodeId | None:
        """Return the live node whose sids begin with the hint."""
        return self._membership.leases.by_hint(hint, self.loop.time())

    def others(self) -> set[NodeId]:
        """Return the other live nodes."""
        return self._membership.leases.living(self.loop.time()) - {self.node}

    def ever_met(self) -> set[NodeId]:
        """Return the other nodes with a lease, live or expired: one that could not renew its own may still run."""
        leases, now = self._membership.leases, self.loop.time()
        return (leases.living(now) | leases.ended(now)) - {self.node}

    def attending(self) -> set[NodeId]:
        """Return the other nodes that receive what is sent to all: they are live and may have sessions."""
        return self._membership.leases.attending(self.loop.time()) - {self.node}

    def rebuilt(self) -> dict[NodeId, int]:
        """Return how often each live node, this one included, has lost subscriptions to topics and has them again."""
        return self._membership.leases.rebuilt(self.loop.time())

    def announce_rebuilt(self, count: int) -> None:
        """Let all nodes know how often this one has lost subscriptions to topics and has them again."""
        self._rebuilt = count
        self._membership.renew_soon()

    async def meet(self) -> bool:
        """Discover nodes that have just started or begun to attend; return False if the registry does not answer."""
        return await self._membership.renew()

    def stuck(self) -> set[NodeId]:
        """Return the live nodes that cannot answer at the moment because their event loop is blocked."""
        return self._membership.leases.stuck(self.loop.time())

    async def check_attending(self) -> bool:
        """Ensure that :meth:`attending` is complete; return False if that cannot be determined."""
        return await self._membership.check_attending()

    def leave_tombstone(self, name: Name, entry: Entry) -> None:
        """Leave a tombstone for a session that has moved away, unless it is known to have moved on."""
        now = self.loop.time()
        earlier = self.tombstones.get(name, now)
        if earlier is None or earlier.rank < entry.rank:
            self.tombstones.put(name, entry, now)

    @property
    def stood_still(self) -> bool:
        """Whether this node failed to renew its lease in time: the others may have gone on without it."""
        return self._membership.stood_still

    def is_settled(self, seconds: float) -> bool:
        """Tell whether the backend has answered without interruption for at least this long."""
        return self._membership.is_settled(seconds)

    def came_back_within(self, seconds: float) -> bool:
        """Tell whether the link is down, or link or registry have only recovered within this many seconds."""
        if self._lost_at is not None or self._membership.was_shaken_within(seconds):
            return True
        return self._back_at is not None and self.loop.time() - self._back_at < seconds

    def knows_all(self) -> bool:
        """Tell whether this node knows all others, which it may not right after an outage."""
        return not self.came_back_within(SETTLED_AFTER) and self._membership.is_older(SETTLED_AFTER)

    def is_whole(self, epoch: Epoch) -> bool:
        """Tell whether an epoch is complete: it is not new, and every live node has written its entries in it."""
        membership = self._membership
        has_written = epoch.id in membership.complete or not self._attends
        return (
            has_written
            and membership.age_of(epoch) >= SETTLED_AFTER
            and membership.leases.all_complete(epoch.id, self.loop.time(), apart=self.node)
        )

    def _fallen(self, nodes: set[NodeId]) -> None:
        for node in nodes - {self.node}:
            self.outgoing.gone(node)
            self.requests.gone(node)
            self.locations.drop_node(node)
            self._incoming.forget(node)
        for function in self.on_fallen:
            function(nodes)

    def _deafened(self, nodes: set[NodeId]) -> None:
        for node in nodes:
            self.locations.drop_node(node)

    # Attending: receiving what is sent to all

    async def attend(self) -> None:
        """
        Subscribe to what is sent to all, and announce it in the lease; does not wait while the backend is away.

        From then on senders to all wait for this node, or discover that they must.
        """
        if self._quits is not None:
            self.wheel.cancel(self._quits)
            self._quits = None
        self._attends = True
        if not self.link.is_reachable:
            self.bus.want()
            return
        if not self._membership.says_attends:
            await self._membership.announce()
        if not self.bus.attends:
            with contextlib.suppress(BackendUnavailable):
                await self.bus.attend()

    def quit_later(self, is_empty: Callable[[], bool]) -> None:
        """Unsubscribe from what is sent to all after a while, unless a session appears in the meantime."""

        def say_so() -> None:
            self._quits = None
            if is_empty():
                self._attends = False
                self._membership.renew_soon()
                # By then every node has read that, and none waits for this one.
                self._quits = self.wheel.alarm(self._options.lease, quit)

        def quit() -> None:
            self._quits = None
            if is_empty():
                self.bus.quit()

        if self._quits is None:
            self._quits = self.wheel.alarm(self._times.attend, say_so)

    def hears_anew(self) -> bool:
        """Tell whether reception of what is sent to all has only just resumed, so that some may have been missed."""
        return self.loop.time() - self._heard_again_at < self._options.probe

    # Sending

    def next_serial(self) -> int:
        """Return the serial number of a fan-out."""
        return next(self._serials)

    def send(self, node: NodeId | None, dispatch: Dispatch) -> None:
        """Send to a node, possibly this one, or with None to all others, at the end of the current tick."""
        if node == self.node:
            self.loop.call_soon(self._send_here, dispatch)
        else:
            self.outgoing.send(node, dispatch)

    def _send_here(self, dispatch: Dispatch) -> None:
        item = decode_item(dispatch.encode())
        dispatch.left(Fate.SENT, 1)
        self._take(item, self.node)

    def send_by_topic(self, topic: str, dispatch: Dispatch) -> None:
        """Send to the nodes that have subscribed to a topic, at the end of the current tick."""
        self.outgoing_by_topic.send(topic, dispatch)

    async def fence(self, topic: str, node: NodeId, seconds: float) -> bool:
        """Wait until a node has received everything sent on a topic so far; return whether it has said so in time."""
        passed: asyncio.Future[bool] = self.loop.create_future()

        def settled(answer: Answer) -> None:
            if not passed.done():
                passed.set_result(answer.status == "accepted")

        fence = TopicFence(self.requests.ask(node, seconds, settled), self.node, node)
        self.send_by_topic(topic, Note(fence))
        return await passed

    def _pass(self, fence: TopicFence) -> None:
        if fence.node == self.node:
            self.answer(fence, "accepted")

    def tell(self, node: NodeId, item: Item, *, bulk: bool = False) -> None:
        """Send an item whose fate is of no interest."""
        self.send(node, BulkNote(item) if bulk else Note(item))

    def ask(
        self, node: NodeId, make: Callable[[int], Request], seconds: float, settled: Settled, *, bulk: bool = False
    ) -> int:
        """
        Send a request, have ``settled`` called with its answer, and return its id.

        A request that certainly was not sent is settled immediately, as ``unsent``.
        """
        id = self.requests.ask(node, seconds, settled)

        def left(fate: Fate) -> None:
            if fate not in (Fate.SENT, Fate.UNSURE):
                self.requests.end(id, UNSENT)

        item = make(id)
        self.send(node, BulkNote(item, left) if bulk else Note(item, left))
        return id

    async def asked(self, node: NodeId, make: Callable[[int], Request], seconds: float) -> Answer:
        """Send a request and wait for its answer; if none arrives, the answer has a local status that tells why."""
        answered: asyncio.Future[Answer] = self.loop.create_future()

        def settled(answer: Answer) -> None:
            if not answered.done():
                answered.set_result(answer)

        self.ask(node, make, seconds, settled)
        return await answered

    def answer(self, request: Request, status: str, value: Any = NIL, *, bulk: bool = False) -> None:
        """Answer a request, if it wants an answer."""
        if request.id != NO_ID:
            self.tell(request.origin, Answer(request.id, status, value), bulk=bulk)

    # Receiving

    def _take(self, item: Item | Unsupported, sender: NodeId) -> None:
        if isinstance(item, Unsupported):
            self._metrics.count("bus_items_unsupported")
            if item.id != NO_ID:
                self.tell(item.origin, Answer(item.id, UNSUPPORTED))
            return
        handler = self._handlers.get(type(item))
        if handler is None:
            self._metrics.count("bus_items_unsupported")
            return
        self._guard(handler, item, sender)

    def _topic_changed(self, topic: str, heard: bool) -> None:
        for function in self.on_topic:
            self._guard(function, topic, heard)

    def _published(self, topic: str, published: Published) -> None:
        for function in self.on_published:
            self._guard(function, topic, published)

    def _guard(self, function: Callable[[_First, _Second], None], first: _First, second: _Second) -> None:
        """Call a function for a reader, which must survive any failure that a message of another node causes."""
        try:
            function(first, second)
        except Exception as error:
            self._metrics.count("bus_items_failed")
            self._problem(error)

    def _take_answer(self, answer: Answer, sender: NodeId) -> None:
        if not self.requests.take(answer, sender):
            self._metrics.count("bus_answers_unknown")

    def _confirm(self, node: NodeId, confirm: Confirm) -> None:
        self.tell(node, confirm)
