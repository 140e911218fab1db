"""The promises about sends: truthful receipts, on time, and each message once and in order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from primacron.testing.promises.records import Reached, Sent, Told
from primacron.testing.promises.story import Life, Story

#: Seconds a message may take from the queue of its connection to its client.
TRANSIT = 2.0


def find_late_receipts(story: Story) -> Iterator[str]:
    """Find receipts that came late although the sender was alive and healthy."""
    for mark, sent in story.sent.items():
        answer = story.told.get(mark) or story.reached.get(mark)
        until = sent.at + story.limits.receipt
        end = answer.at if answer is not None else min(story.end, story.died.get(mark.sender, story.end))
        if end > until and not story.disturbed([mark.sender], sent.at, end):
            what = "came late" if answer is not None else "never came"
            yield f"the receipt of {mark}, sent at {story.when(sent.at)}, {what}: {end - sent.at:.1f} s"


def find_lying_receipts(story: Story) -> Iterator[str]:
    """Find receipts that claim certainty for what is untrue."""
    for mark, told in story.told.items():
        sent = story.sent.get(mark)
        if sent is None or not told.certain:
            continue
        if told.status in ("accepted", "acknowledged"):
            if not story.inbound[mark] and (why := _why_it_should_have_come(story, sent, told)):
                yield f"{mark} was certainly {told.status} at {story.when(told.at)}, but never arrived: {why}"
        elif story.inbound[mark]:
            came = story.inbound[mark][0]
            yield (
                f"{mark} was certainly {told.status} at {story.when(told.at)}, "
                f"but arrived at {story.when(came.at)} on connection {came.sid}"
            )
        elif told.status in ("unknown_session", "node_gone"):
            for life in _living(story, (sent.account, sent.session), mark.sender, sent.at, told.at):
                yield f"{mark} was certainly {told.status} at {story.when(told.at)}, though {life} lived"


def _why_it_should_have_come(story: Story, sent: Sent, told: Told) -> str | None:
    """Explain why an accepted message should have arrived; None if its connection may have been lost with it."""
    if story.end - told.at < TRANSIT:
        return None
    there = [life for life in story.by_name[sent.account, sent.session] if life.was_there(sent.at, told.at)]
    if not there:
        return f"no node had {sent.account}/{sent.session} then"
    if all(life.outlived(sent.mark) for life in there):
        return f"{' and '.join(map(str, there))} lived on"
    return None


def _living(story: Story, name: tuple[str, str], asker: str, begin: float, end: float) -> Iterator[Life]:
    """Yield connections that lasted throughout, were alone under their name, and were not hidden by any trouble."""
    for life in story.by_name[name]:
        nodes = {asker, *(stay.node for stay in life.stays)}
        if life.lasted(begin, end) and story.is_only(life, begin, end) and not story.disturbed(nodes, begin, end):
            yield life


def find_lying_reaches(story: Story) -> Iterator[str]:
    """Find reaches that are certain but missed a session that was there, or counted too many."""
    for mark, reached in story.reached.items():
        sent = story.sent.get(mark)
        if sent is not None and reached.certain and not mark.channel:
            there = [
                life
                for life in story.lives.values()
                if (not sent.account or life.account == sent.account) and life.was_there(sent.at, reached.at)
            ]
            lasted = {life.sid for life in there if life.lasted(sent.at, reached.at)}
            yield from find_lies(story, sent, reached, there, lasted)


def find_lies(story: Story, sent: Sent, reached: Reached, there: list[Life], lasted: set[str]) -> Iterator[str]:
    """Find what is wrong in a certain reach; ``there`` are all that it may have met, ``lasted`` those that it must."""
    mark = sent.mark
    got = {arrived.sid for arrived in story.inbound[mark]}
    text = f"{mark} certainly reached {reached.sessions} sessions at {story.when(reached.at)}"
    # A suspended node may deliver it later, when it no longer counts.
    disturbed = {
        life.sid
        for life in there
        if story.disturbed([mark.sender, *(stay.node for stay in life.stays)], sent.at, reached.at)
    }
    if len(got - disturbed) > reached.sessions:
        yield f"{text}, but arrived at {len(got)}"
    lost = {life.sid for life in there if life.sid in disturbed or not life.outlived(mark)}
    if len(got | lost) < reached.sessions and story.end - reached.at > TRANSIT:
        yield f"{text}, but there were only {len(got | lost)} that it can have reached"
    for life in there:
        if life.sid in lasted and life.sid not in got | lost and story.end - reached.at > TRANSIT:
            yield f"{text}, but not {life}, which lived on"


def find_doubles(story: Story) -> Iterator[str]:
    """Find sends that arrived more than once: anywhere if to a session, at one connection if to many."""
    for mark, inbound in story.inbound.items():
        if mark.kind == "session":
            if len(inbound) > 1:
                where = ", ".join(f"{each.sid} at {story.when(each.at)}" for each in inbound)
                yield f"{mark} arrived {len(inbound)} times: {where}"
        else:
            for sid, count in Counter(each.sid for each in inbound).items():
                if count > 1:
                    yield f"{mark} arrived {count} times at connection {sid}"


def find_disorder(story: Story) -> Iterator[str]:
    """Find messages that arrived out of order at one connection, among those of one sender to one kind of target."""
    for life in story.lives.values():
        last: dict[tuple[str, str], int] = {}
        for arrived in life.inbound:
            stream = arrived.mark[:2]
            if arrived.mark.number < last.get(stream, 0):
                yield f"{arrived.mark} arrived behind {last[stream]} on {life}, at {story.when(arrived.at)}"
            last[stream] = max(arrived.mark.number, last.get(stream, 0))


def find_unhandled(story: Story) -> Iterator[str]:
    """Find client messages that were handled twice, out of order, or after a lost one."""
    for life in story.lives.values():
        for place, handled in enumerate(life.handled, 1):
            if handled.number != place:
                yield (
                    f"message {handled.number} of {life} was handled as number {place} "
                    f"at node {handled.node}, at {story.when(handled.at)}"
                )
                break


def find_lookups_that_miss(story: Story) -> Iterator[str]:
    """Find lookups that found nobody although the session was alive."""
    for found in story.found:
        if not found.found:
            for life in _living(story, (found.account, found.session), found.node, found.asked, found.at):
                yield f"find of node {found.node} found nobody at {story.when(found.at)}, though {life} lived"
