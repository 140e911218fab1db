"""The backend without Redis: one process, complete within it."""

from __future__ import annotations

import asyncio
import itertools

from primacron.accounts import AccountMap
from primacron.cluster.base import Bus, Entry, Receive, Registry
from primacron.errors import SessionTaken
from primacron.ids import AccountId, NodeId, SessionId, Sid


class MemoryRegistry(Registry):
    """A registry that the nodes of one process share."""

    def __init__(self) -> None:
        self._entries: AccountMap[Entry] = AccountMap()
        self._generations = itertools.count(1)

    async def claim(
        self, account: AccountId, session: SessionId, node: NodeId, sid: Sid, *, replace: bool = True
    ) -> tuple[Entry, Entry | None]:
        """See :meth:`Registry.claim`."""
        replaced = self._entries.get(account, session)
        if replaced is not None and not replace:
            raise SessionTaken(session)
        entry = Entry(session, node, next(self._generations), sid)
        self._entries.add(account, entry)
        return entry, replaced

    async def release(self, account: AccountId, entry: Entry) -> bool:
        """See :meth:`Registry.release`."""
        return self._entries.remove(account, entry)

    async def find(self, account: AccountId, session: SessionId) -> Entry | None:
        """See :meth:`Registry.find`."""
        return self._entries.get(account, session)

    async def sessions(self, account: AccountId) -> list[Entry]:
        """See :meth:`Registry.sessions`."""
        return self._entries.of(account)


class MemoryBus(Bus):
    """A bus between the nodes of one process; what is published arrives in a later tick."""

    def __init__(self) -> None:
        self._nodes: dict[NodeId, Receive] = {}

    async def join(self, node: NodeId, receive: Receive) -> None:
        """See :meth:`Bus.join`."""
        self._nodes[node] = receive

    async def leave(self, node: NodeId) -> None:
        """See :meth:`Bus.leave`."""
        self._nodes.pop(node, None)

    async def publish(self, sender: NodeId, destination: NodeId | None, body: bytes) -> int:
        """See :meth:`Bus.publish`."""
        if destination is None:
            receivers = [node for node in self._nodes if node != sender]
        else:
            receivers = [destination] if destination in self._nodes else []
        loop = asyncio.get_running_loop()
        for node in receivers:
            loop.call_soon(self._hand_over, node, body)
        return len(receivers)

    def _hand_over(self, node: NodeId, body: bytes) -> None:
        receive = self._nodes.get(node)
        if receive is not None:
            receive(body)
