"""What a node has of its cluster: who the others are, and how to reach them."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable
from typing import Any, Final, TypeVar

from primacron.cluster.base import SETTLED_AFTER, Backend, BackendUnavailable, Lease
from primacron.cluster.envelope import Unsupported, decode_item
from primacron.cluster.incoming import Incoming
from primacron.cluster.link import Event, Link, LinkBack, LinkLost, State
from primacron.cluster.locations import Locations
from primacron.cluster.membership import Membership, Residents
from primacron.cluster.outgoing import BulkNote, Dispatch, Fate, Note, Outgoing
from primacron.cluster.requests import TIMED_OUT, UNSENT, UNSUPPORTED, Requests, Settled
from primacron.cluster.wire import NIL, NO_ID, VERSION, Answer, Confirm, Item, Request
from primacron.config import Options
from primacron.entries import Entry, Name
from primacron.ids import Keyring, NodeId
from primacron.metrics import Metrics
from primacron.wheel import Alarm, Wheel

I = TypeVar("I", bound=Item)  # noqa: E741

#: Seconds after a failure that nobody foresaw until the place among the others is kept again.
STAY_AGAIN: Final = 0.5
#: Seconds for which a node hears what is sent to all after its last session has ended.
ATTENDS_FOR: Final = 60.0


class Cluster:
    """
    The other nodes, for this one.

    ``on`` registers who takes an item of a kind that comes from another node.
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
    ) -> None:
        self.node = node
        self.registry = backend.registry
        self.bus = backend.bus
        self._close = backend.close
        self.loop = loop
        self.wheel = wheel
        self.link = Link(self._link_changed)
        self.requests = Requests(wheel)
        self.outgoing = Outgoing(node, backend.bus, loop, wheel, max_waiting=options.outbox_total)
        #: Where sessions of other nodes are.
        self.locations = Locations()
        #: Where sessions went that were here.
        self.tombstones = Locations(options.timeout)
        #: Called with nodes whose lease has ended.
        self.on_fallen: list[Callable[[set[NodeId]], None]] = []
        #: Called when the link is up again.
        self.on_back: list[Callable[[], None]] = []
        self._hint = hint
        self._keyring = keyring
        self._options = options
        self._metrics = metrics
        self._problem = problem
        self._incoming = Incoming(node, loop, metrics, self._take, self._confirm, options.probe)
        self._takers: dict[type[Item], Callable[[Any, NodeId], None]] = {
            Answer: self._take_answer,
            Confirm: lambda confirm, sender: self.outgoing.confirmed(sender, confirm),
        }
        self._membership: Membership
        self._running: asyncio.Task[None] | None = None
        self._quits: Alarm | None = None
        self._serials = itertools.count(1)
        self._lost_at: float | None = None
        self._back_at: float | None = None
        self._started = 0
        self.address = ""
        self.is_draining = False

    def on(self, kind: type[I], taker: Callable[[I, NodeId], None]) -> None:
        """Let a function take the items of a kind, with the node that sent each."""
        self._takers[kind] = taker

    # Life

    async def join(self, residents: Residents, started: int) -> None:
        """Take part; where the backend is away, as soon as it is there."""
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
            lease=self._options.lease,
        )
        await self.bus.join(self.node, self._incoming.hear, self._hearing_changed)
        await self._membership.renew()
        self._running = self.loop.create_task(self._stay())

    async def _stay(self) -> None:
        """Keep the place among the others; what nobody foresaw is told, and does not end it."""
        while True:
            try:
                await self._membership.run()
            except ExceptionGroup as group:
                for error in group.exceptions:
                    self._problem(error)
            await asyncio.sleep(STAY_AGAIN)

    async def leave(self) -> None:
        """Take part no longer."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait({self._running})
        with contextlib.suppress(BackendUnavailable):
            await self._membership.retire()
        # In this order: what waits is unsent for certain, of what has left nobody will hear any more.
        self.outgoing.close()
        self.requests.close_all(TIMED_OUT)
        await self.bus.leave()
        await self._close()

    def _describe(self) -> Lease:
        return Lease(
            address=self.address,
            version=VERSION,
            started=self._started,
            hint=self._hint,
            draining=self.is_draining,
            deaf=self.link.state is State.DEAF,
            complete=self._membership.complete,
        )

    # The link

    def _hearing_changed(self, hearing: bool) -> None:
        self.link.step(Event.HEARD if hearing else Event.SILENT, "no message arrived for too long")

    def _link_changed(self, before: State, why: str) -> None:
        state = self.link.state
        self.outgoing.open = self.link.is_reachable
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
        """Return what is wrong with the link, or None."""
        if self.link.state is not State.UP:
            return f"the link to the other servers: {self.link.state.value}"
        refused = self._incoming.refused()
        if refused:
            nodes = ", ".join(refused)
            return f"the link to the other servers: something sent in the name of node {nodes} hides its messages"
        return None

    def details(self) -> dict[str, object]:
        """Return what operators may want to know: this node, how many there are, and the link to them."""
        return {"node": self.node, "nodes": 1 + len(self.others()), "link": self.link.state.name.lower()}

    # The others

    def lives(self, node: NodeId) -> Lease | None:
        """Return the lease of a node that lives."""
        return self._membership.leases.get(node, self.loop.time())

    def knows(self, node: NodeId) -> bool:
        """Tell whether a node has a lease, be it ended."""
        return self._membership.leases.knows(node)

    def is_gone(self, node: NodeId) -> bool:
        """Tell whether a node's lease has ended, and not only because nobody could renew it in an outage just now."""
        return self.lives(node) is None and self.is_settled(SETTLED_AFTER)

    def by_hint(self, hint: str) -> NodeId | None:
        """Return the living node whose sids begin with the hint."""
        return self._membership.leases.by_hint(hint, self.loop.time())

    def others(self) -> set[NodeId]:
        """Return the other nodes that live."""
        return self._membership.leases.living(self.loop.time()) - {self.node}

    def ever_met(self) -> set[NodeId]:
        """Return the other nodes that have a lease, be it ended: while nobody could renew his, they may live."""
        leases, now = self._membership.leases, self.loop.time()
        return (leases.living(now) | leases.ended(now)) - {self.node}

    async def meet(self) -> None:
        """Learn of nodes that have just begun."""
        await self._membership.renew()

    def bury(self, name: Name, entry: Entry) -> None:
        """Remember where a session went that was here, unless it is known that it went further."""
        now = self.loop.time()
        earlier = self.tombstones.get(name, now)
        if earlier is None or earlier.rank < entry.rank:
            self.tombstones.put(name, entry, now)

    def is_settled(self, seconds: float) -> bool:
        """Tell whether the backend has answered for so long without a break."""
        return self._membership.is_settled(seconds)

    def came_back_within(self, seconds: float) -> bool:
        """Tell whether the link was lost, and came back not longer ago than that, or is not yet as it was."""
        if self._lost_at is not None:
            return True
        return self._back_at is not None and self.loop.time() - self._back_at < seconds

    def all_complete(self, epoch: str) -> bool:
        """Tell whether every living node has written all of its entries in an epoch."""
        return self._membership.leases.all_complete(epoch, self.loop.time())

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

    # Hearing what is sent to all

    async def attend(self) -> None:
        """Hear what is sent to all; not waited for while that cannot be had."""
        if self._quits is not None:
            self.wheel.cancel(self._quits)
            self._quits = None
        if not self.link.is_reachable:
            self.bus.want()
        elif not self.bus.attends:
            with contextlib.suppress(BackendUnavailable):
                await self.bus.attend()

    def quit_later(self, is_empty: Callable[[], bool]) -> None:
        """Stop hearing what is sent to all, unless somebody comes soon."""

        def quit() -> None:
            self._quits = None
            if is_empty():
                self.bus.quit()

        if self._quits is None:
            self._quits = self.wheel.alarm(ATTENDS_FOR, quit)

    # Sending

    def next_serial(self) -> int:
        """Return the number of a send to many."""
        return next(self._serials)

    def send(self, node: NodeId | None, dispatch: Dispatch) -> None:
        """Send to a node, which may be this one, or with None to all others, at the end of this tick."""
        if node == self.node:
            self.loop.call_soon(self._send_here, dispatch)
        else:
            self.outgoing.send(node, dispatch)

    def _send_here(self, dispatch: Dispatch) -> None:
        item = decode_item(dispatch.encode())
        dispatch.left(Fate.SENT, 1)
        self._take(item, self.node)

    def tell(self, node: NodeId, item: Item, *, bulk: bool = False) -> None:
        """Send an item of which nobody wants to know what became."""
        self.send(node, BulkNote(item) if bulk else Note(item))

    def ask(
        self, node: NodeId, make: Callable[[int], Request], seconds: float, settled: Settled, *, bulk: bool = False
    ) -> int:
        """
        Send a request and have its answer settled; return its id.

        One that certainly did not leave is settled with ``unsent`` at once.
        """
        id = self.requests.ask(node, seconds, settled)

        def left(fate: Fate) -> None:
            if fate not in (Fate.SENT, Fate.UNSURE):
                self.requests.end(id, UNSENT)

        item = make(id)
        self.send(node, BulkNote(item, left) if bulk else Note(item, left))
        return id

    async def asked(self, node: NodeId, make: Callable[[int], Request], seconds: float) -> Answer:
        """Send a request and return its answer; see :meth:`ask`."""
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

    # Hearing

    def _take(self, item: Item | Unsupported, sender: NodeId) -> None:
        if isinstance(item, Unsupported):
            self._metrics.count("bus_items_unsupported")
            if item.id != NO_ID:
                self.tell(item.origin, Answer(item.id, UNSUPPORTED))
            return
        taker = self._takers.get(type(item))
        if taker is None:
            self._metrics.count("bus_items_unsupported")
            return
        try:
            taker(item, sender)
        except Exception as error:  # the reader goes on, whatever an item of another node makes go wrong here
            self._metrics.count("bus_items_failed")
            self._problem(error)

    def _take_answer(self, answer: Answer, sender: NodeId) -> None:
        if not self.requests.take(answer, sender):
            self._metrics.count("bus_answers_unknown")

    def _confirm(self, node: NodeId, confirm: Confirm) -> None:
        self.tell(node, confirm)
