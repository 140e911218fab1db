"""
The auction's server: business logic and nothing else.

A lot goes to the last bid that nobody tops for a while. Clients receive three
events, each a complete picture, so that one who joins late or reconnects needs
nothing more: ``lot``, ``people`` and ``point``.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Annotated, Final

from msgspec import Meta, Struct

from primacron import HttpRequest, Primacron, Refused, Session

STEP: Final = 50_00
#: Number of recent bids shown.
SHOWN: Final = 20
PAGE: Final = Path(__file__).parent / "page"

#: A fraction of the picture's width or height.
Part = Annotated[float, Meta(ge=0, le=1)]


class Bid(Struct, forbid_unknown_fields=True):
    """What a client sends. The annotations are the validation: nothing else reaches :meth:`Auction.bid`."""

    lot: int
    cents: Annotated[int, Meta(ge=1_00, le=1_000_000_00)]


class Lot(Struct):
    """
    A lot and the stage of its sale: ``open``, ``going once``, ``going twice`` or ``sold``.

    ``seconds`` is the time to the next stage, 0 until the first bid.
    """

    number: int
    title: str
    about: str
    picture: str
    lowest: int
    stage: str = "open"
    seconds: float = 0
    bids: list[tuple[str, int]] = []


LOTS: Final = (
    Lot(1, "Harbour, four in the morning", "Screenprint in seven colours, edition of 40", "/harbour.svg", 120_00),
    Lot(2, "Three hills after rain", "Linocut on Japanese paper, edition of 25", "/hills.svg", 90_00),
    Lot(3, "Pears, second state", "Pochoir, signed, edition of 60", "/pears.svg", 150_00),
)


class Auction:
    """One room, in which lots are sold one after another."""

    def __init__(self, server: Primacron, silence: float) -> None:
        self._server = server
        self._silence = silence
        self._lots = cycle(LOTS)
        self._lot = self._next_lot()
        self._hammer: asyncio.Task[None] | None = None
        self._falls_at = 0.0

    def _next_lot(self) -> Lot:
        lot = next(self._lots)
        return Lot(lot.number, lot.title, lot.about, lot.picture, lot.lowest)

    async def enter(self, session: Session) -> None:
        """Show a newcomer the current lot, and tell everyone who is present."""
        self._lot.seconds = max(0.0, self._falls_at - time.monotonic())
        session.emit("lot", self._lot)
        await self.tell_who_is_here()

    async def tell_who_is_here(self, *_: object) -> None:
        """Send everyone the list of sessions, not of people: two windows of one person count twice."""
        everyone = self._server.everyone
        everyone.emit("people", [(each.id, each.account) for each in await everyone.sessions()])

    def point(self, session: Session, x: Part, y: Part) -> None:
        """Show the others where someone points; a slow client skips some of these (``volatile``)."""
        everyone = self._server.everyone
        everyone.emit("point", session.id, session.account, x, y, except_=session, volatile=True)

    async def bid(self, session: Session, bid: Bid) -> str:
        """Accept or refuse a bid; the bidder gets the answer, everyone gets the lot."""
        lot = self._lot
        if bid.lot != lot.number or lot.stage == "sold":
            raise Refused(409, f"lot {bid.lot} is not for sale any more")
        if bid.cents < lot.lowest:
            raise Refused(409, f"the next bid is at least {_euros(lot.lowest)}")
        lot.bids = [*lot.bids[1 - SHOWN :], (session.account, bid.cents)]
        lot.lowest = bid.cents + STEP
        if self._hammer is not None:
            self._hammer.cancel()
        self._hammer = asyncio.create_task(self._count_down())
        return "accepted"

    async def _count_down(self) -> None:
        for stage in ("open", "going once", "going twice", "sold"):
            self._show(stage, self._silence)
            await asyncio.sleep(self._silence)
        self._lot = self._next_lot()
        self._show("open", 0)

    def _show(self, stage: str, seconds: float) -> None:
        self._lot.stage, self._lot.seconds = stage, seconds
        self._falls_at = time.monotonic() + seconds
        self._server.everyone.emit("lot", self._lot)


def create(silence: float = 8.0) -> Primacron:
    """Return an auction server; ``silence`` is in seconds, and three of them in a row sell a lot."""
    server = Primacron(namespace="auction")
    auction = Auction(server, silence)
    server.event("bid")(auction.bid)
    server.event("point")(auction.point)
    server.on("connection", auction.enter)
    server.on("disconnection", auction.tell_who_is_here)
    for file in PAGE.iterdir():
        server.get("/" if file.name == "index.html" else f"/{file.name}")(partial(_answer, file.read_bytes()))
    return server


def _euros(cents: int) -> str:
    return f"€{cents / 100:,.2f}".removesuffix(".00")


def _answer(content: bytes, _: HttpRequest) -> bytes:
    return content
