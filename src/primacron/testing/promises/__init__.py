"""
Whether servers keep their promises, judged from records of what they and their clients did.

:class:`Witness` records what a server does and learns, :class:`ClientWitness` what
a client receives; a client not written in Python can write the records itself.
:func:`findings` reads all of them and returns a sentence for each promise that was
broken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from primacron.testing.promises import histories, owners, seats, sends
from primacron.testing.promises.records import (
    EVENT,
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
    Place,
    Reached,
    Seated,
    Sent,
    Settled,
    Shown,
    Stored,
    Told,
    Took,
    Trouble,
    decode_records,
    encode_record,
)
from primacron.testing.promises.story import Limits, Story
from primacron.testing.promises.witness import ClientWitness, Witness

__all__ = [
    "EVENT",
    "AnyRecord",
    "Arrived",
    "Began",
    "ClientWitness",
    "Closed",
    "Counted",
    "Died",
    "Emptied",
    "Ended",
    "Entered",
    "Exited",
    "Found",
    "Handled",
    "Holds",
    "Joined",
    "Left",
    "Limits",
    "Listed",
    "Mark",
    "Missed",
    "Named",
    "Opened",
    "Place",
    "Reached",
    "Seated",
    "Sent",
    "Settled",
    "Shown",
    "Stored",
    "Told",
    "Took",
    "Trouble",
    "Witness",
    "decode_records",
    "encode_record",
    "findings",
]

CHECKS: Final[tuple[Callable[[Story], Iterator[str]], ...]] = (
    sends.find_lying_receipts,
    sends.find_lying_reaches,
    sends.find_late_receipts,
    sends.find_doubles,
    sends.find_disorder,
    sends.find_unhandled,
    sends.find_lookups_that_miss,
    histories.find_broken_histories,
    seats.find_lying_rooms,
    seats.find_false_members,
    seats.find_ghosts,
    owners.find_two_owners,
    owners.find_dead_nodes,
    owners.find_lives_without_end,
    owners.find_unlike_reality,
)

_DEFAULT: Final = Limits()


def findings(records: Iterable[AnyRecord], limits: Limits = _DEFAULT) -> list[str]:
    """
    Return a sentence for each broken promise, grouped by kind; empty if all were kept.

    The undecidable is not reported: whether a message arrived whose connection was lost
    at that moment, or what a node did while it was in :class:`Trouble`. The final state
    is checked at quiet moments only: where the records have what the nodes hold,
    followed by what the registry says.
    """
    story = Story(records, limits)
    return [finding for check in CHECKS for finding in check(story)]
