"""Sessions that are on their way from one node to another, and what comes for them meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeAlias

from primacron.entries import Entry, Name

#: What came for a session on its way: called with its entry once it has come, with None if it is not known where it is.
Held: TypeAlias = Callable[[Entry | None], None]


class Journey:
    """One session that is on its way from here, or to here."""

    def __init__(self) -> None:
        self._held: list[Held] = []

    def hold(self, held: Held) -> None:
        """Keep what came for the session until it is known where it is."""
        self._held.append(held)

    async def outcome(self) -> Entry | None:
        """Wait until it is known where the session is; None if it has ended, or is with somebody else."""
        known: asyncio.Future[Entry | None] = asyncio.get_running_loop().create_future()

        def settle(entry: Entry | None) -> None:
            if not known.done():
                known.set_result(entry)

        self.hold(settle)
        return await known

    def release(self, entry: Entry | None) -> None:
        """Let what came go to where the session is."""
        held, self._held = self._held, []
        for each in held:
            each(entry)


#: Those of a node, by account and session.
Journeys: TypeAlias = dict[Name, Journey]
