"""
The auction's server: business logic and nothing else.

A lot goes to the last bid that nobody tops for a while. All clients are in the channel
``sale``, whose presence tells who is here, and where ``lot`` and ``point`` are sent. The
bids on a lot are the messages of its own channel, whose history serves those who come late.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial
from itertools import count, cycle
from pathlib import Path
from typing import Annotated, Final

from msgspec import Meta, Struct
from msgspec.structs import replace

from primacron import HttpRequest, Primacron, Refused, Session

STEP: Final = 50_00
#: How many bids on a lot are kept, and for how many seconds.
KEPT: Final = 20
KEPT_FOR: Final = 3600
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

    @property
    def channel(self) -> str:
        """Where the bids on it are sent."""
        return f"lot:{self.number}"


#: What is sold, again and again, each time under a new number.
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
        self._lots = zip(count(1), cycle(LOTS), strict=False)
        self._lot = self._next_lot()
        self._hammer: asyncio.Task[None] | None = None
        self._falls_at = 0.0

    def _next_lot(self) -> Lot:
        number, lot = next(self._lots)
        return replace(lot, number=number)

    def enter(self, session: Session, channel: str) -> None:
        """Show a newcomer the current lot, once nothing of the sale can be missed any more."""
        if channel == "sale":
            self._lot.seconds = max(0.0, self._falls_at - time.monotonic())
            session.emit("lot", self._lot)

    def point(self, session: Session, x: Part, y: Part) -> None:
        """Show the others where someone points; a slow client skips some of these (``volatile``)."""
        sale = self._server.channel("sale")
        sale.emit("point", session.id, session.account, x, y, except_=session, volatile=True)

    async def bid(self, session: Session, bid: Bid) -> str:
        """Accept or refuse a bid; the bidder gets the answer, everyone gets the bid and the lot."""
        lot = self._lot
        if bid.lot != lot.number or lot.stage == "sold":
            raise Refused(409, f"lot {bid.lot} is not for sale any more")
        if bid.cents < lot.lowest:
            raise Refused(409, f"the next bid is at least {_euros(lot.lowest)}")
        lot.lowest = bid.cents + STEP
        self._server.channel(lot.channel).emit("bid", session.account, bid.cents)
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
        self._server.channel("sale").emit("lot", self._lot)


def create(silence: float = 8.0) -> Primacron:
    """Return an auction server; ``silence`` is in seconds, and three of them in a row sell a lot."""
    server = Primacron(namespace="auction")
    auction = Auction(server, silence)
    server.event("bid")(auction.bid)
    server.event("point")(auction.point)
    server.channels("sale", presence=True)
    server.channels("lot:{number}", history=KEPT, keep=KEPT_FOR)
    server.on("channel::join", auction.enter)
    for file in PAGE.iterdir():
        server.get("/" if file.name == "index.html" else f"/{file.name}")(partial(_answer, file.read_bytes()))
    return server


def _euros(cents: int) -> str:
    return f"€{cents / 100:,.2f}".removesuffix(".00")


def _answer(content: bytes, _: HttpRequest) -> bytes:
    return content
