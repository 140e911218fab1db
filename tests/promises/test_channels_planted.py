"""In the true records of a run nothing is found, and each of them that is forged is found out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from primacron.testing.promises import AnyRecord, Counted, Joined, Missed, Named, Reached, Shown, Took, findings
from primacron.testing.promises.sends import TRANSIT
from tests.promises.channel_scene import channel_scene
from tests.promises.scene import LIMITS, READY_WITHIN
from tests.promises.test_channels import AGREED_WITHIN, ALL_IN_WITHIN

T = TypeVar("T")

CLIENTS: Final = 12
#: Seconds for which servers send.
SECONDS: Final = 3.0


def is_certain_room(record: AnyRecord) -> bool:
    """Tell whether this is a reach of a room that is certain."""
    return isinstance(record, Reached) and record.certain and record.mark.channel.startswith("room-")


class Forger:
    """Changes records of one client in one channel, and of one publisher."""

    def __init__(self, records: list[AnyRecord]) -> None:
        self.records = records
        counted = {(took.sid, took.channel): took for took in self.all_of(Took) if took.offset}
        self.sid, self.channel = max(counted, key=lambda each: len(self.taken(*each)))
        self.took = self.taken(self.sid, self.channel)

    def all_of(self, kind: type[T]) -> list[T]:
        """Return the records of a kind."""
        return [record for record in self.records if isinstance(record, kind)]

    def taken(self, sid: str, channel: str) -> list[Took]:
        """Return what a client received in a channel."""
        return [took for took in self.all_of(Took) if (took.sid, took.channel) == (sid, channel)]

    def exchange(self, old: AnyRecord, *new: AnyRecord) -> list[AnyRecord]:
        """Return the records with others in the place of one."""
        return [each for record in self.records for each in (new if record is old else (record,))]

    def lose(self) -> list[AnyRecord]:
        """Let a client not receive one."""
        return self.exchange(self.took[1])

    def lose_last(self) -> list[AnyRecord]:
        """Let a client not receive the last one."""
        return self.exchange(self.took[-1])

    def double(self) -> list[AnyRecord]:
        """Let a client receive one twice."""
        return self.exchange(self.took[1], self.took[1], self.took[1])

    def swap(self) -> list[AnyRecord]:
        """Let a client receive one behind the next."""
        first, second = self.took[1], self.took[2]
        return self.exchange(first, msgspec.structs.replace(first, at=second.at + 1e-6))

    def tell_false_gap(self) -> list[AnyRecord]:
        """Let a client be told of a gap that is none."""
        first = self.took[1]
        [joined] = [each for each in self.all_of(Joined) if (each.sid, each.channel) == (self.sid, self.channel)]
        gap = Missed(first.at, self.sid, self.channel, joined.epoch, first.offset, first.offset)
        return self.exchange(first, gap, first)

    def deny(self) -> list[AnyRecord]:
        """Let a publisher be told that nobody has a message."""
        [reached] = [each for each in self.all_of(Reached) if each.mark == self.took[1].mark]
        return self.exchange(reached, msgspec.structs.replace(reached, epoch="", offset=0))

    def misplace(self) -> list[AnyRecord]:
        """Let a publisher be told another position."""
        [reached] = [each for each in self.all_of(Reached) if each.mark == self.took[1].mark]
        return self.exchange(reached, msgspec.structs.replace(reached, offset=reached.offset + 1000))

    def reach_more(self) -> list[AnyRecord]:
        """Let a send to a room have reached more than were there."""
        reached = next(each for each in self.all_of(Reached) if is_certain_room(each))
        return self.exchange(reached, msgspec.structs.replace(reached, sessions=reached.sessions + 1))

    def name_ghost(self) -> list[AnyRecord]:
        """Let a server name somebody at the end who is not there."""
        named = self.all_of(Named)[-1]
        return self.exchange(named, msgspec.structs.replace(named, members=(*named.members, ("ghost", "one"))))

    def show_too_few(self) -> list[AnyRecord]:
        """Let a client not see a member at the end."""
        shown = next(each for each in reversed(self.all_of(Shown)) if each.members)
        return self.exchange(shown, msgspec.structs.replace(shown, members=shown.members[1:]))

    def miscount(self) -> list[AnyRecord]:
        """Let a server count wrong at the end."""
        counted = self.all_of(Counted)[-1]
        return self.exchange(counted, msgspec.structs.replace(counted, count=counted.count + 1))


#: What is forged, and what is said of it.
FORGED: Final[dict[Callable[[Forger], list[AnyRecord]], str]] = {
    Forger.lose: "never received",
    Forger.lose_last: "never received",
    Forger.double: "twice",
    Forger.swap: "behind",
    Forger.tell_false_gap: "are lost, but received",
    Forger.deny: "was certainly not kept",
    Forger.misplace: " is at ",
    Forger.reach_more: "that it can have reached",
    Forger.name_ghost: "who is not there",
    Forger.show_too_few: "does not see",
    Forger.miscount: "at the quiet moment",
}


async def test_what_is_forged_is_found(tmp_path: Path, anyio_backend: object) -> None:
    async with channel_scene(tmp_path, "redis", 0) as made:
        made.bring(CLIENTS)
        for client in made.clients:
            client.settle()
        await made.until_all_in(ALL_IN_WITHIN)
        await made.begin()
        await asyncio.sleep(SECONDS)
        async with asyncio.timeout(READY_WITHIN):
            while not any(is_certain_room(record) for record in made.records()):
                await asyncio.sleep(0.2)
        await made.all_servers("/rest")
        await asyncio.sleep(TRANSIT)
        await made.until_all_see_all(AGREED_WITHIN)
        records = made.records()
    assert findings(records, LIMITS) == []
    forger = Forger(sorted(records, key=lambda record: record.at))
    for forge, sentence in FORGED.items():
        found = findings(forge(forger), LIMITS)
        assert any(sentence in each for each in found), (forge.__name__, found)
