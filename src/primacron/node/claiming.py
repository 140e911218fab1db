"""Claims of session names in the registry, and the requests to previous holders to close what was replaced."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine
from typing import TYPE_CHECKING, Any, Final

import msgspec

from primacron.cluster.cluster import Cluster
from primacron.cluster.envelope import encode_item
from primacron.cluster.errors import BackendUnavailable, CommandRefused
from primacron.cluster.finder import Finder
from primacron.cluster.items import Answer, Holds, Replace, Request
from primacron.cluster.outgoing import Dispatch, Fate
from primacron.cluster.registry import Claim, Outcome
from primacron.cluster.requests import NODE_GONE, TIMED_OUT, UNSENT, Pending, Requests
from primacron.entries import Entry, Name
from primacron.errors import Overloaded, SessionTaken
from primacron.ids import NodeId, Sid

if TYPE_CHECKING:
    from primacron.node.admission import Admissions

#: Seconds after which the request to close what was replaced is repeated.
ASK_AGAIN: Final = 2.0
#: Seconds within which all nodes have to answer whether they hold a session.
TOLD_WITHIN: Final = 2.0


class Claiming:
    """
    Claims sessions, and ensures that each has a single owner.

    Of several claims the one of the highest rank wins. A node whose claim replaces another in
    the registry asks the previous owner to close its connection.
    """

    def __init__(
        self,
        cluster: Cluster,
        finder: Finder,
        admissions: Admissions,
        run: Callable[[Coroutine[Any, Any, Any]], object],
    ) -> None:
        self._cluster = cluster
        self._finder = finder
        self._admissions = admissions
        self._run = run
        #: Claims of unknown outcome, and the nodes whose claims they may have replaced.
        self._doubtful: list[tuple[Name, Sid, set[NodeId]]] = []
        cluster.on(Replace, self._replace)
        cluster.on(Holds, self._tell_holder)
        cluster.on_back.append(self._is_back)

    # To claim

    async def claim(self, name: Name, sid: Sid, *, replace: bool) -> Claim:
        """
        Claim a session; the caller has to close what the claim replaced.

        Raises:
            SessionTaken: if another node has it, and ``replace`` is false.
            Overloaded: if that cannot be determined now.
            BackendUnavailable: if the registry does not answer.

        """
        ask, registry, node = self._cluster.link.ask, self._cluster.registry, self._cluster.node
        if not replace:
            await self._demand_free(name)
        while True:
            claim = await ask(registry.claim, *name, node, sid, replace=replace)
            before = claim.before
            if claim.entry is not None or before is None:
                return claim
            await self._demand_dead(name, before)
            entry = Entry(name[1], node, max(before.generation + 1, registry.generation(name[0])), sid)
            swapped = await ask(registry.swap, name[0], before, entry)
            if swapped.outcome is Outcome.DONE:
                # Claiming once more, in place of this node's own entry, returns the members of its sets.
                claim = await ask(registry.claim, *name, node, sid)
                return claim if claim.before != entry else Claim(claim.entry, None, claim.sets)

    async def _demand_free(self, name: Name) -> None:
        """Refuse a claim if any node holds the session, even one that the registry does not (yet or still) have."""
        if self._admissions.holds(name):
            raise SessionTaken(name[1])
        if await self._finder.is_complete(name):
            return
        is_held = await self._ask_all(name)
        if is_held is None:
            raise Overloaded("some server does not tell whether it has the session")
        if is_held:
            raise SessionTaken(name[1])

    async def _demand_dead(self, name: Name, holder: Entry) -> None:
        """Refuse a claim unless the lease of the node that holds the session has expired."""
        await self._finder.meet([holder])
        if self._cluster.lives(holder.node) is not None:
            raise SessionTaken(name[1])
        if not self._cluster.is_gone(holder.node):
            raise Overloaded("it is not known yet whether the server of the session lives")

    async def _ask_all(self, name: Name) -> bool | None:
        """Ask all other nodes whether they hold a session; return None if some do not answer."""
        outcome: asyncio.Future[bool | None] = self._cluster.loop.create_future()
        requests = self._cluster.requests
        inquiry = Inquiry(requests, requests.next_id(), outcome)
        requests.open(inquiry, TOLD_WITHIN)
        self._cluster.send(None, _Question(inquiry, Holds(inquiry.id, self._cluster.node, *name)))
        return await outcome

    def _tell_holder(self, item: Holds, _: NodeId) -> None:
        is_here = self._admissions.holds((item.account, item.session))
        self._cluster.answer(item, "accepted" if is_here else "unknown_session")

    # To close what was replaced

    def close(self, name: Name, replaced: Entry, claim: Entry) -> None:
        """Close the connection of a claim that was replaced, on whichever node it is."""
        if replaced.node == self._cluster.node:
            self._admissions.close_older(name, claim)
            return

        def make(id: int) -> Request:
            return Replace(id, self._cluster.node, *name, replaced.sid, claim.generation)

        def settled(answer: Answer) -> None:
            if answer.status in ("accepted", NODE_GONE):
                return
            # Checked only now, and not by the lease alone: the node may have joined since the leases were read.
            if self._cluster.is_gone(replaced.node):
                return
            if answer.status == TIMED_OUT:
                self.close(name, replaced, claim)
            else:
                self._cluster.wheel.alarm(ASK_AGAIN, lambda: self.close(name, replaced, claim))

        self._cluster.ask(replaced.node, make, ASK_AGAIN, settled)

    def _replace(self, item: Replace, _: NodeId) -> None:
        """Close a connection whose session another node has claimed; later items are passed on to that node."""
        name = (item.account, item.session)
        claim = Entry(item.session, item.origin, item.generation, item.sid)
        self._cluster.leave_tombstone(name, claim)
        self._admissions.close_older(name, claim, item.sid)
        self._cluster.answer(item, "accepted")

    # Claims of unknown outcome

    def doubt(self, name: Name, sid: Sid) -> None:
        """Record a claim that may have succeeded: the answer, with what it replaced, was lost."""
        self._doubtful.append((name, sid, self._cluster.ever_met()))

    def _is_back(self) -> None:
        if self._doubtful:
            self._run(self._clear_up())

    async def _clear_up(self) -> None:
        """Close what claims of unknown outcome may have replaced."""
        doubtful, self._doubtful = self._doubtful, []
        for number, (name, sid, nodes) in enumerate(doubtful):
            try:
                (entry,) = await self._cluster.link.ask(self._cluster.registry.find, name[0], [name[1]])
            except CommandRefused:  # the claim failed on an unreadable entry: skip it
                continue
            except BackendUnavailable:
                self._doubtful += doubtful[number:]
                return
            if entry is not None:
                self._close_at_all(name, sid, entry, nodes)

    def _close_at_all(self, name: Name, sid: Sid, entry: Entry, nodes: Collection[NodeId]) -> None:
        is_ours = entry.node == self._cluster.node and entry.sid == sid
        if not is_ours:
            # A later claim has notified this node. What the doubtful one replaced is at least two generations below it.
            entry = msgspec.structs.replace(entry, generation=entry.generation - 1)
        for node in nodes:
            self.close(name, Entry(name[1], node, 0, Sid("")), entry)
        if is_ours and not self._admissions.lives_here(name):
            self._admissions.release(name[0], entry)


class Inquiry(Pending):
    """Whether any other node holds a session: settled by the first that does, or once all have answered."""

    __slots__ = ("_answered", "_expected", "_outcome")

    def __init__(self, requests: Requests, id: int, outcome: asyncio.Future[bool | None]) -> None:
        super().__init__(requests, id)
        self._outcome = outcome
        self._answered: set[NodeId] = set()
        self._expected: int | None = None

    def expect(self, nodes: int) -> None:
        """Set the number of nodes that were asked."""
        self._expected = nodes
        self._look()

    def answered(self, answer: Answer, sender: NodeId | None) -> None:
        """Count an answer, and settle on the first node that holds the session."""
        if answer.status == "accepted":
            self._finish(is_held=True)
        elif answer.status == "unknown_session" and sender is not None:
            self._answered.add(sender)
            self._look()

    def gone(self, node: NodeId) -> None:
        """Do nothing, as it is unknown which nodes were asked; the timeout applies."""

    def end(self, status: str) -> None:
        """Settle as unknown."""
        self._finish(is_held=None)

    def _look(self) -> None:
        if self._expected is not None and len(self._answered) >= self._expected:
            self._finish(is_held=False)

    def _finish(self, *, is_held: bool | None) -> None:
        self.requests.close(self)
        if not self._outcome.done():
            self._outcome.set_result(is_held)


class _Question(Dispatch):
    """An inquiry sent to all other nodes."""

    __slots__ = ("_inquiry", "_item")

    def __init__(self, inquiry: Inquiry, item: Holds) -> None:
        self._inquiry = inquiry
        self._item = item

    def encode(self) -> bytes:
        """Encode the item."""
        return encode_item(self._item)

    def left(self, fate: Fate, nodes: int) -> None:
        """Tell the inquiry how many nodes were asked, or that it was not sent."""
        if fate is Fate.SENT:
            self._inquiry.expect(nodes)
        else:
            self._inquiry.end(UNSENT)
