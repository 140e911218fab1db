"""The promises about who is in a channel: reaches of rooms, members and counts, presence at quiet moments."""

from __future__ import annotations

from collections.abc import Iterator

from primacron.testing.promises.records import Counted, Named, Seated, Shown
from primacron.testing.promises.sends import find_lies
from primacron.testing.promises.story import Quiet, Seat, Story

#: Accounts and sessions.
_Names = set[tuple[str, str]]


def find_lying_rooms(story: Story) -> Iterator[str]:
    """Find reaches of channels without a history that are certain, but missed a member or counted too many."""
    for mark, reached in story.reached.items():
        sent = story.sent.get(mark)
        if sent is not None and mark.channel and mark.channel not in story.kept and reached.certain:
            seats = [seat for seat in story.seats[mark.channel] if seat.was_there(sent.at, reached.at)]
            if seats or reached.sessions:
                lasted = {seat.life.sid for seat in seats if seat.lasted(sent.at, reached.at)}
                there = {seat.life.sid: seat.life for seat in seats}
                yield from find_lies(story, sent, reached, [*there.values()], lasted)


# While things happen


def find_false_members(story: Story) -> Iterator[str]:
    """Find certain lists of members, and counts, with somebody who was not there, or without one who was."""
    for named in story.named:
        if named.certain:
            yield from _judge_members(story, named)
    for counted in story.counted:
        if counted.certain:
            yield from _judge_count(story, counted)


def _judge_members(story: Story, named: Named) -> Iterator[str]:
    text = f"members() of {named.channel} at node {named.node}, certain at {story.when(named.at)},"
    possible, sure = _around(story, named)
    for name in sorted({*named.members} - possible):
        yield f"{text} named {'/'.join(name)}, who was not there"
    for name in sorted(sure - {*named.members}):
        yield f"{text} did not name {'/'.join(name)}, who was there"


def _judge_count(story: Story, counted: Counted) -> Iterator[str]:
    possible, sure = _count_around(story, counted)
    if not sure <= counted.count <= possible:
        yield (
            f"count() of {counted.channel} at node {counted.node}, certain at {story.when(counted.at)}, "
            f"was {counted.count}, but there were {sure} to {possible}"
        )


def _seats_around(story: Story, asked: Named | Counted) -> tuple[list[Seat], list[Seat]]:
    """Return the seats that may have been taken when it was asked, and those that were for certain."""
    since = asked.asked - story.limits.presence
    possible = [seat for seat in story.seats[asked.channel] if seat.was_there(since, asked.at)]
    # Who is at a node in trouble cannot be known, nor what is known by a node in trouble.
    sure = [
        seat
        for seat in possible
        if seat.lasted(since, asked.at)
        and not story.disturbed([asked.node, *(stay.node for stay in seat.life.stays)], since, asked.at)
    ]
    return possible, sure


def _around(story: Story, named: Named) -> tuple[_Names, _Names]:
    possible, sure = _seats_around(story, named)
    # The dead are named until their lease is over, however long their node stood still before.
    gone = {
        seat.life.name
        for seat in story.seats[named.channel]
        if story.disturbed([named.node, *(stay.node for stay in seat.life.stays)], seat.end, named.at)
    }
    return {seat.life.name for seat in possible} | gone, {seat.life.name for seat in sure}


def _count_around(story: Story, counted: Counted) -> tuple[int, int]:
    possible, sure = _seats_around(story, counted)
    return len({seat.life.sid for seat in possible}), len({seat.life.sid for seat in sure})


# At quiet moments


def find_ghosts(story: Story) -> Iterator[str]:
    """Find disagreements at a quiet moment about who is in a channel."""
    for quiet in story.quiet_channels:
        yield from compare_presence(quiet, f"at the quiet moment at {story.when(quiet.at)}")


def compare_presence(quiet: Quiet, when: str) -> Iterator[str]:
    """Compare what is said at a quiet moment with what the nodes hold."""
    for said in quiet.said:
        there = _there(quiet.seated, said.channel)
        match said:
            case Counted():
                count = sum(len(sids) for sids in there.values())
                if said.count != count or not said.certain:
                    sure = "certainly" if said.certain else "perhaps"
                    yield f"{when} node {said.node} counts {sure} {said.count} in {said.channel}, where {count} are"
            case Named(certain=False):
                yield f"{when} node {said.node} is not certain who is in {said.channel}"
            case Named() | Shown():
                yield from _compare(f"{when} {_speaker(said)}", said, {*there})


def _there(seated: dict[str, Seated], channel: str) -> dict[tuple[str, str], set[str]]:
    there: dict[tuple[str, str], set[str]] = {}
    for each in seated.values():
        for name, account, session, sid in each.seats:
            if name == channel:
                there.setdefault((account, session), set()).add(sid)
    return there


def _speaker(said: Named | Shown) -> str:
    return f"node {said.node}" if isinstance(said, Named) else f"the client of {said.sid}"


def _compare(text: str, said: Named | Shown, there: _Names) -> Iterator[str]:
    for name in sorted({*said.members} - there):
        yield f"{text} sees {'/'.join(name)} in {said.channel}, who is not there"
    for name in sorted(there - {*said.members}):
        yield f"{text} does not see {'/'.join(name)} in {said.channel}"
