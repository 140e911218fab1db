"""
Sends to other nodes: batched per tick and destination, cut into envelopes, held back by flow control.

The unconfirmed bytes per destination are limited, so that no node can make the
backend buffer more than that for a slow one. A receiver confirms every so often
what has arrived, and so makes room for what is queued.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from enum import Enum
from functools import partial
from typing import ClassVar, Final, TypeAlias

from primacron.cluster.bus import Bus
from primacron.cluster.envelope import HEAD_SIZE, MAX_ENVELOPE, MAX_ITEMS, encode_envelope, encode_item
from primacron.cluster.items import CONFIRM, TO_ALL, Confirm, Fragment, Item
from primacron.ids import NodeId
from primacron.wheel import Alarm, Wheel

#: Limit of unconfirmed bytes per destination.
MAX_UNCONFIRMED: Final = 1_048_576
#: Bytes after which the receiver is asked to confirm.
CONFIRM_EVERY: Final = 131_072
#: Seconds without a confirmation before asking again.
ASK_AGAIN: Final = 2.0
#: Number of destinations beyond which idle ones are forgotten.
MAX_ROUTES: Final = 16_384


class Fate(Enum):
    """What became of an item to be sent."""

    SENT = "handed to the nodes that listen"
    NOBODY = "nobody listens for the node"
    GONE = "the lease of the node ended before it was sent"
    UNSENT = "never sent: there is no link, or no room"
    UNSURE = "perhaps sent: the backend did not say"


class Dispatch(ABC):
    """An item to be sent to another node, or to all."""

    __slots__ = ()

    #: Whether it may be delayed in favour of others: it is large, and no order depends on it.
    bulk: ClassVar[bool] = False

    @abstractmethod
    def encode(self) -> bytes:
        """Return the encoded item; called once, at the end of the tick."""

    @abstractmethod
    def left(self, fate: Fate, nodes: int) -> None:
        """Learn its fate, and the number of nodes that it was handed to."""


def _ignore(fate: Fate) -> None:
    """Ignore the fate."""


class Note(Dispatch):
    """A plain item; ``left`` is called with its fate."""

    __slots__ = ("_item", "_left")

    def __init__(self, item: Item, left: Callable[[Fate], None] = _ignore) -> None:
        self._item = item
        self._left = left

    def encode(self) -> bytes:
        """Encode the item."""
        return encode_item(self._item)

    def left(self, fate: Fate, nodes: int) -> None:
        """Pass the fate on."""
        self._left(fate)


class BulkNote(Note):
    """An item that may be delayed in favour of others."""

    __slots__ = ()
    bulk = True


#: An encoded item or fragment; only the last fragment carries the dispatch.
_Packed: TypeAlias = tuple[bytes, Dispatch | None]


class _Route:
    """The queues to one destination, and what is unconfirmed there."""

    __slots__ = (
        "asked",
        "asked_at",
        "bulk",
        "confirms",
        "destination",
        "epoch",
        "expected",
        "fresh",
        "number",
        "sent",
        "since",
        "unconfirmed",
        "urgent",
    )

    def __init__(self, destination: NodeId | None, epoch: int) -> None:
        self.destination = destination
        self.epoch = epoch
        self.fresh: list[Dispatch] = []
        self.urgent: deque[_Packed] = deque()
        self.bulk: deque[_Packed] = deque()
        self.number = 0
        #: Unconfirmed envelopes: number and size in bytes.
        self.sent: deque[tuple[int, int]] = deque()
        self.unconfirmed = 0
        #: Bytes since a confirmation was last requested, the envelope number it was requested for, and when.
        self.since = 0
        self.asked = 0
        self.asked_at = 0.0
        #: Confirmations received for that number, and how many are expected; None until that is known.
        self.confirms = 0
        self.expected: int | None = None

    @property
    def is_idle(self) -> bool:
        """Whether nothing is queued or unconfirmed."""
        return not (self.fresh or self.urgent or self.bulk or self.sent)

    def confirm(self, number: int) -> None:
        """Release everything up to a confirmed number."""
        while self.sent and self.sent[0][0] <= number:
            self.unconfirmed -= self.sent.popleft()[1]
        if not self.sent:
            self.since = 0


class Outgoing:
    """Everything that this node sends to others."""

    def __init__(
        self, node: NodeId, bus: Bus, loop: asyncio.AbstractEventLoop, wheel: Wheel, *, max_waiting: int
    ) -> None:
        self._node = node
        self._bus = bus
        self._loop = loop
        self._wheel = wheel
        self._max_waiting = max_waiting
        self._routes: dict[NodeId | None, _Route] = {}
        self._dirty: list[_Route] = []
        self._waiting = 0
        self._serial = 0
        self._epochs = itertools.count(1)
        self._look: Alarm | None = None
        #: Returns how many nodes receive what is sent to all; the bus may still count some that are gone.
        self.attending: Callable[[], int] = lambda: sys.maxsize
        #: Whether anything can be sent at the moment.
        self.open = False

    @property
    def waiting(self) -> int:
        """Bytes queued for lack of room."""
        return self._waiting

    def send(self, destination: NodeId | None, dispatch: Dispatch) -> None:
        """Send an item at the end of this tick, or as soon as there is room."""
        route = self._routes.get(destination)
        if route is None:
            route = self._begin(destination)
        if not route.fresh:
            if not self._dirty:
                self._loop.call_soon(self.flush)
            self._dirty.append(route)
        route.fresh.append(dispatch)

    def _begin(self, destination: NodeId | None) -> _Route:
        if len(self._routes) >= MAX_ROUTES:
            # Requests that name nodes which do not exist must not leave routes behind.
            self._routes = {node: route for node, route in self._routes.items() if not route.is_idle}
        route = self._routes[destination] = _Route(destination, next(self._epochs))
        return route

    def flush(self) -> None:
        """Encode and send what this tick has collected."""
        dirty, self._dirty = self._dirty, []
        for route in dirty:
            fresh, route.fresh = route.fresh, []
            for dispatch in fresh:
                self._pack(route, dispatch)
            self._publish(route)

    def _pack(self, route: _Route, dispatch: Dispatch) -> None:
        try:
            data = dispatch.encode()
        except Exception as error:  # one that cannot be encoded must not affect the others
            self._loop.call_exception_handler({"message": "an item for another server", "exception": error})
            dispatch.left(Fate.UNSENT, 0)
            return
        size = len(data)
        if not self.open or self._waiting + size > self._max_waiting:
            dispatch.left(Fate.UNSENT, 0)
            return
        queue = route.bulk if dispatch.bulk else route.urgent
        if size <= MAX_ENVELOPE - HEAD_SIZE:
            self._waiting += size
            queue.append((data, dispatch))
            return
        for packed in self._cut(data, dispatch):
            self._waiting += len(packed[0])
            queue.append(packed)

    def _cut(self, data: bytes, dispatch: Dispatch) -> list[_Packed]:
        self._serial += 1
        step = MAX_ENVELOPE - 2 * HEAD_SIZE
        total = -(-len(data) // step)
        parts = [
            Fragment(self._serial, index, total, data[index * step : (index + 1) * step]) for index in range(total)
        ]
        return [(encode_item(part), dispatch if part is parts[-1] else None) for part in parts]

    # Envelopes

    def _publish(self, route: _Route) -> None:
        """Send what is queued, as far as there is room."""
        while True:
            batch, size = self._next_batch(route)
            if not batch:
                return
            self._waiting -= size
            route.since += size
            items = [data for data, _ in batch]
            self._publish_items(route, items, size, confirm=route.since >= CONFIRM_EVERY, batch=batch)

    def _next_batch(self, route: _Route) -> tuple[list[_Packed], int]:
        room = MAX_UNCONFIRMED - route.unconfirmed if route.sent else MAX_UNCONFIRMED
        batch: list[_Packed] = []
        size = 0
        # Bulk never takes more than half of the room.
        for queue, share in ((route.urgent, room), (route.bulk, room - MAX_UNCONFIRMED // 2)):
            limit = min(share, MAX_ENVELOPE - HEAD_SIZE)
            while queue and len(batch) < MAX_ITEMS:
                length = len(queue[0][0])
                if size + length > limit:
                    break
                batch.append(queue.popleft())
                size += length
        return batch, size

    def _publish_items(
        self, route: _Route, items: list[bytes], size: int, *, confirm: bool, batch: Sequence[_Packed] = ()
    ) -> None:
        route.number += 1
        route.sent.append((route.number, size))
        route.unconfirmed += size
        flags = TO_ALL if route.destination is None else 0
        if confirm:
            flags |= CONFIRM
            route.since = 0
            route.asked = route.number
            route.asked_at = self._loop.time()
            route.confirms = 0
            route.expected = None
            self._look_later()
        body = encode_envelope(self._node, route.epoch, route.number, flags, items)
        future = self._bus.publish(route.destination, body)
        future.add_done_callback(partial(self._published, route, route.number, batch))

    def _published(self, route: _Route, number: int, batch: Sequence[_Packed], future: asyncio.Future[int]) -> None:
        failed = future.cancelled() or future.exception() is not None
        nodes = 0 if failed else future.result()
        if route.destination is None:
            nodes = max(0, nodes - self._bus.attends)
            if number == route.asked:
                route.expected = min(nodes, self.attending())
                self._free_if_confirmed(route)
        fate = Fate.UNSURE if failed else Fate.SENT if nodes or route.destination is None else Fate.NOBODY
        if fate is Fate.NOBODY:
            self._free(route, number)
        for _, dispatch in batch:
            if dispatch is not None:
                dispatch.left(fate, nodes)

    # Flow control

    def _free_if_confirmed(self, route: _Route) -> None:
        """Release what was sent to all once every receiver of the last request has confirmed."""
        if route.expected is not None and route.confirms >= route.expected:
            self._free(route, route.asked)

    def confirmed(self, node: NodeId, confirm: Confirm) -> None:
        """Handle a confirmation."""
        route = self._routes.get(None if confirm.to_all else node)
        if route is None or confirm.epoch != route.epoch:
            return
        if not confirm.to_all:
            self._free(route, confirm.number)
        elif confirm.number == route.asked:
            route.confirms += 1
            self._free_if_confirmed(route)

    def _free(self, route: _Route, number: int) -> None:
        route.confirm(number)
        if self._routes.get(route.destination) is route:
            self._publish(route)

    def _look_later(self) -> None:
        if self._look is None:
            self._look = self._wheel.alarm(ASK_AGAIN, self._ask_again)

    def _ask_again(self) -> None:
        """Recover from a lost confirmation."""
        self._look = None
        now = self._loop.time()
        for route in tuple(self._routes.values()):
            if not route.sent or route.asked < route.sent[0][0]:
                continue
            self._look_later()
            if now - route.asked_at < ASK_AGAIN:
                continue
            if route.destination is None:
                self._free(route, route.asked)  # some node has gone or become deaf meanwhile
            else:
                self._publish_items(route, [], 0, confirm=True)

    # When the link or a node goes down

    def close(self) -> None:
        """Stop sending; everything queued is reported as unsent."""
        self.open = False
        for destination in tuple(self._routes):
            self._discard(destination, Fate.UNSENT)

    def gone(self, node: NodeId) -> None:
        """Discard what is queued for a node whose lease has expired."""
        self._discard(node, Fate.GONE)

    def _discard(self, destination: NodeId | None, fate: Fate) -> None:
        route = self._routes.pop(destination, None)
        if route is None:
            return
        waiting = [*route.urgent, *route.bulk]
        self._waiting -= sum(len(data) for data, _ in waiting)
        if route.fresh:
            self._dirty.remove(route)
            waiting += [(b"", dispatch) for dispatch in route.fresh]
        for _, dispatch in waiting:
            if dispatch is not None:
                dispatch.left(fate, 0)
