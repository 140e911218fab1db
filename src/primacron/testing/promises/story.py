"""The records put together: the life of each connection, and each send with its outcome."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

from primacron.testing.promises.records import (
    AnyRecord,
    Arrived,
    Began,
    Closed,
    Counted,
    Died,
    Emptied,
    Ended,
    Entered,
    Exited,
    Found,
    Handled,
    Holds,
    Joined,
    Left,
    Listed,
    Mark,
    Missed,
    Named,
    Opened,
    Reached,
    Seated,
    Sent,
    Settled,
    Shown,
    Stored,
    Told,
    Took,
    Trouble,
)

#: Seconds by which the records of one event may differ between two processes.
SLACK = 0.5


@dataclass(frozen=True)
class Limits:
    """
    Tolerances, in seconds.

    ``two_owners`` is how long two nodes may hold one session, ``dead`` how long a node
    may still be named after its death, ``receipt`` how long a receipt may take.
    ``linger`` is how long one end may not know of a connection or of its loss:
    ``ping_interval`` plus ``ping_timeout``, and some slack. ``healed`` is how long the
    effects of a :class:`Trouble` may last after it. ``presence`` is how long a node may not
    know who has joined a channel elsewhere, or left it.

    ``history`` is the number of messages that the channels keep at least; 0 if they differ,
    then it is not checked whether what was lost was due to be kept.
    """

    two_owners: float = 5.0
    dead: float = 5.0
    receipt: float = 7.5
    linger: float = 50.0
    healed: float = 6.0
    presence: float = 5.0
    history: int = 0


#: What happens to a client in a channel.
InChannel: TypeAlias = Joined | Left | Took | Missed


@dataclass
class Stay:
    """One connection at one node; ``end`` is infinite while it lasts."""

    node: str
    begin: float
    end: float = float("inf")


@dataclass
class Seat:
    """One session in a channel; ``heard`` is when its node heard the channel from the others."""

    life: Life
    begin: float
    heard: float = float("inf")
    end: float = float("inf")

    def was_there(self, begin: float, end: float) -> bool:
        """Tell whether it may have been taken at any time in the interval."""
        return self.begin <= end + SLACK and self.end >= begin - SLACK

    def lasted(self, begin: float, end: float) -> bool:
        """Tell whether it was taken all the time, and everybody could know."""
        return self.heard < begin - 2 * SLACK and self.end > end + SLACK and self.life.lasted(begin, end)


@dataclass
class Quiet:
    """What the nodes hold in their channels at a quiet moment, and what they and clients say."""

    at: float
    seated: dict[str, Seated]
    said: list[Named | Counted | Shown]


@dataclass
class Life:
    """Everything known about one connection."""

    sid: str
    account: str = ""
    session: str = ""
    #: When its client learned of it, and of its end.
    opened: float | None = None
    closed: float | None = None
    stays: list[Stay] = field(default_factory=list)
    #: How often ``connection`` and ``disconnection`` were reported.
    connections: int = 0
    disconnections: int = 0
    inbound: list[Arrived] = field(default_factory=list)
    handled: list[Handled] = field(default_factory=list)
    #: What its client was told in each channel.
    channels: dict[str, list[InChannel]] = field(default_factory=lambda: defaultdict(list))

    @property
    def name(self) -> tuple[str, str]:
        """Account and session."""
        return self.account, self.session

    @property
    def begin(self) -> float:
        """When a node first had it."""
        return min((stay.begin for stay in self.stays), default=float("inf"))

    @property
    def end(self) -> float:
        """When a node last had it."""
        return max((stay.end for stay in self.stays), default=float("-inf"))

    def was_there(self, begin: float, end: float) -> bool:
        """Tell whether a node had it at any time in the interval."""
        return self.begin <= end + SLACK and self.end >= begin - SLACK

    def lasted(self, begin: float, end: float) -> bool:
        """Tell whether a node had it all the time, and everybody could know."""
        return self.begin < begin - 2 * SLACK and self.end > end + SLACK

    def outlived(self, mark: Mark) -> bool:
        """Tell whether its client kept it long enough for the send to have arrived."""
        if self.opened is not None and self.closed is None:
            return True
        return any(each.mark[:2] == mark[:2] and each.mark.number > mark.number for each in self.inbound)

    def __str__(self) -> str:
        return f"connection {self.sid} of {self.account}/{self.session}"


class Story:
    """The records of one run, indexed."""

    def __init__(self, records: Iterable[AnyRecord], limits: Limits) -> None:
        self.limits = limits
        self.records = sorted(records, key=lambda record: record.at)
        self.begin = self.records[0].at if self.records else 0.0
        self.end = self.records[-1].at if self.records else 0.0
        self.lives: dict[str, Life] = {}
        self.sent: dict[Mark, Sent] = {}
        self.told: dict[Mark, Told] = {}
        self.reached: dict[Mark, Reached] = {}
        self.inbound: dict[Mark, list[Arrived]] = defaultdict(list)
        self.found: list[Found] = []
        self.listed: list[Listed] = []
        self.died: dict[str, float] = {}
        self.troubles: list[Trouble] = []
        #: What the nodes hold and what the registry says, at each quiet moment.
        self.quiet: list[tuple[dict[str, Holds], Stored]] = []
        #: Who was in a channel, and when.
        self.seats: dict[str, list[Seat]] = defaultdict(list)
        self._seats_of: dict[tuple[str, str], list[Seat]] = defaultdict(list)
        self.named: list[Named] = []
        self.counted: list[Counted] = []
        self.emptied: list[float] = []
        #: The channels with a history.
        self.kept: set[str] = set()
        self.quiet_channels: list[Quiet] = []
        self._holds: dict[str, Holds] = {}
        self._seated: dict[str, Seated] = {}
        self._said: list[Named | Counted | Shown] = []
        for record in self.records:
            self._add(record)
        self._end_stays()
        self.by_name: dict[tuple[str, str], list[Life]] = defaultdict(list)
        for life in self.lives.values():
            self.by_name[life.name].append(life)

    def _add(self, record: AnyRecord) -> None:
        match record:
            case Sent():
                self.sent[record.mark] = record
            case Told():
                self.told[record.mark] = record
            case Reached():
                self.reached[record.mark] = record
                self.kept |= {record.mark.channel} if record.epoch else set()
            case Found():
                self.found.append(record)
            case Listed():
                self.listed.append(record)
            case Died():
                self.died[record.node] = record.at
            case Trouble():
                self.troubles.append(record)
            case Emptied():
                self.emptied.append(record.at)
            case Holds() | Seated() | Settled() | Stored():
                self._add_to_quiet(record)
            case Named() | Counted() | Shown():
                self._add_said(record)
            case Joined() | Left() | Took() | Missed() | Entered() | Exited():
                self._add_to_channel(record, self.lives.setdefault(record.sid, Life(record.sid)))
            case _:
                self._add_to_life(record, self.lives.setdefault(record.sid, Life(record.sid)))

    def _add_to_quiet(self, record: Holds | Seated | Settled | Stored) -> None:
        match record:
            case Holds():
                self._holds[record.node] = record
            case Seated():
                self._seated[record.node], self._said = record, []
            case Stored():
                self.quiet.append((self._holds, record))
                self._holds = {}
            case Settled():
                self.quiet_channels.append(Quiet(record.at, self._seated, self._said))
                self._seated, self._said = {}, []

    def _add_said(self, record: Named | Counted | Shown) -> None:
        if self._seated:
            self._said.append(record)
        match record:
            case Named():
                self.named.append(record)
            case Counted():
                self.counted.append(record)

    def _add_to_channel(self, record: InChannel | Entered | Exited, life: Life) -> None:
        match record:
            case Entered():
                self._enter(record, life)
            case Exited():
                for seat in self._open_seats(record.channel, life):
                    seat.end = record.at
            case Took(offset=0):
                self._add_to_life(Arrived(record.at, record.sid, record.mark), life)
            case Joined():
                for seat in self._open_seats(record.channel, life):
                    seat.heard = min(seat.heard, record.at)
                self.kept |= {record.channel} if record.epoch else set()
                life.channels[record.channel].append(record)
            case _:
                life.channels[record.channel].append(record)

    def _enter(self, record: Entered, life: Life) -> None:
        seats = self._open_seats(record.channel, life)
        if not seats:
            seats = [Seat(life, record.at)]
            self.seats[record.channel] += seats
            self._seats_of[record.channel, life.sid] += seats
        for seat in seats:
            seat.heard = min(seat.heard, record.at) if record.heard else seat.heard

    def _open_seats(self, channel: str, life: Life) -> list[Seat]:
        return [seat for seat in self._seats_of[channel, life.sid] if seat.end == float("inf")]

    def _add_to_life(self, record: Arrived | Opened | Closed | Began | Ended | Handled, life: Life) -> None:
        match record:
            case Arrived():
                life.inbound.append(record)
                self.inbound[record.mark].append(record)
            case Opened():
                life.account, life.session = record.account, record.session
                life.opened = record.at
            case Closed():
                life.closed = record.at if life.closed is None else life.closed
            case Handled():
                life.handled.append(record)
            case Began():
                life.account, life.session = record.account, record.session
                life.stays.append(Stay(record.node, record.at))
                life.connections += not record.moved
            case Ended():
                life.disconnections += not record.moved
                for stay in life.stays:
                    if stay.node == record.node and stay.end == float("inf"):
                        stay.end = record.at

    def _end_stays(self) -> None:
        """End the stays at nodes that have died, and the seats of sessions that ended with them."""
        for life in self.lives.values():
            for stay in life.stays:
                stay.end = min(stay.end, self.died.get(stay.node, stay.end))
        for seats in self.seats.values():
            for seat in seats:
                seat.end = min(seat.end, max(seat.life.end, seat.begin))

    def disturbed(self, nodes: Iterable[str], begin: float, end: float) -> bool:
        """Tell whether one of the nodes was in trouble during the interval, or shortly before."""
        return any(True for _ in self.disturbances({*nodes}, begin, end))

    def disturbances(self, nodes: set[str], begin: float, end: float) -> Iterator[tuple[float, float]]:
        """Yield when one of the nodes was in trouble or recovering."""
        for trouble in self.troubles:
            until = trouble.until + self.limits.healed
            if (not trouble.node or trouble.node in nodes) and trouble.at - SLACK <= end and until >= begin:
                yield trouble.at - SLACK, until

    def is_only(self, life: Life, begin: float, end: float) -> bool:
        """Tell whether no other connection had the name around that time."""
        grace = self.limits.two_owners
        return all(
            other is life or not other.was_there(begin - grace, end + grace) for other in self.by_name[life.name]
        )

    def when(self, at: float) -> str:
        """Format a time for a sentence."""
        return f"{at - self.begin:.2f} s"
