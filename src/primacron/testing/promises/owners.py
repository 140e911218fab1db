"""The promises about sessions: one owner, one beginning and one end, and no dead node in any answer."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from primacron.testing.promises.records import Holds, Place, Stored
from primacron.testing.promises.story import Life, Stay, Story


def find_two_owners(story: Story) -> Iterator[str]:
    """Find sessions served by two nodes for longer than it takes to settle a claim."""
    for (account, session), lives in story.by_name.items():
        stays = sorted(
            ((life, stay) for life in lives for stay in life.stays), key=lambda each: (each[1].begin, each[1].end)
        )
        for (life, stay), (other_life, other) in itertools.combinations(stays, 2):
            begin, end = max(stay.begin, other.begin), min(stay.end, other.end, story.end)
            if end - begin <= story.limits.two_owners:
                continue
            seconds = _undisturbed(story, (stay, other), begin, end)
            if seconds > story.limits.two_owners:
                yield (
                    f"{account}/{session} had two owners from {story.when(begin)} to {story.when(end)}: "
                    f"node {stay.node} ({life.sid}) and node {other.node} ({other_life.sid})"
                )


def _undisturbed(story: Story, stays: tuple[Stay, Stay], begin: float, end: float) -> float:
    """Return how many seconds of the interval were free of trouble that could hide the two nodes from each other."""
    nodes, at, left = {stay.node for stay in stays}, begin, 0.0
    for since, until in sorted(story.disturbances(nodes, begin, end)):
        left += max(0.0, min(since, end) - at)
        at = max(at, until)
    return left + max(0.0, end - at)


def find_dead_nodes(story: Story) -> Iterator[str]:
    """Find answers that name a node long dead."""
    for found in story.found:
        if found.found:
            place = Place(found.account, found.session, found.found)
            yield from _find_dead(story, "find", found.node, found.asked, (place,))
    for listed in story.listed:
        yield from _find_dead(story, "sessions()", listed.node, listed.asked, listed.places)


def _find_dead(story: Story, what: str, asker: str, asked: float, places: tuple[Place, ...]) -> Iterator[str]:
    for place in places:
        since = asked - story.died.get(place.node, asked)
        if since > story.limits.dead and not story.disturbed([asker], asked, asked):
            yield (
                f"{what} of node {asker} named node {place.node} for {place.account}/{place.session} "
                f"at {story.when(asked)}, {since:.1f} s after its end"
            )


def find_lives_without_end(story: Story) -> Iterator[str]:
    """Find connections whose beginning or end was reported twice, or whose end never was though no node died."""
    for life in story.lives.values():
        if life.connections > 1:
            yield f"connection was heard {life.connections} times for {life}"
        if life.disconnections > 1:
            yield f"disconnection was heard {life.disconnections} times for {life}"
    if story.quiet:
        holds, stored = story.quiet[-1]
        held = {sid for each in holds.values() for *_, sid in each.sessions}
        for life in story.lives.values():
            is_over = life.begin < stored.at and life.sid not in held
            if is_over and not life.disconnections and not _died_with_its_node(story, life):
                yield f"disconnection was never heard for {life}, and no node has it any more"


def _died_with_its_node(story: Story, life: Life) -> bool:
    """Tell whether the death of a node explains that the end of a connection was not reported."""
    last = max(stay.end for stay in life.stays)
    # It may have been about to move to the node that died.
    return any(last == at or abs(last - at) < story.limits.healed for at in story.died.values())


def find_unlike_reality(story: Story) -> Iterator[str]:
    """Find disagreements at a quiet moment, between registry and nodes or between nodes and clients."""
    for holds, stored in story.quiet:
        yield from _compare_with_registry(story, stored, holds)
        yield from _compare_with_clients(story, stored.at, holds)


def _compare_with_registry(story: Story, registry: Stored, holds: dict[str, Holds]) -> Iterator[str]:
    at, when = registry.at, f"at the quiet moment at {story.when(registry.at)}"
    real = {(Place(account, id, node), sid) for node, each in holds.items() for account, id, sid in each.sessions}
    # Entries of a dead node no longer count.
    stored = {(place, sid) for place, sid in registry.entries if story.died.get(place.node, at) >= at}
    for place, sid in sorted(stored - real):
        yield f"{when} the registry has {place.account}/{place.session} at node {place.node}, which has no {sid}"
    for place, sid in sorted(real - stored):
        yield f"{when} node {place.node} has {place.account}/{place.session} ({sid}), but the registry does not say so"
    owners: dict[tuple[str, str], list[str]] = {}
    for place, sid in sorted(real):
        owners.setdefault(place[:2], []).append(f"{place.node} ({sid})")
    for (account, session), nodes in owners.items():
        if len(nodes) > 1:
            yield f"{when} {account}/{session} is at {' and at '.join(nodes)}"


def _compare_with_clients(story: Story, at: float, holds: dict[str, Holds]) -> Iterator[str]:
    when = f"at the quiet moment at {story.when(at)}"
    since = at - story.limits.linger
    held = {sid: node for node, each in holds.items() for *_, sid in each.sessions}
    for sid, node in held.items():
        life = story.lives.get(sid)
        if life is None:
            yield f"{when} node {node} has connection {sid}, of which nobody else knows"
        elif life.closed is not None and life.closed < since:
            yield f"{when} node {node} still has {life}, whose client went away at {story.when(life.closed)}"
        elif life.opened is None and life.begin < since:
            yield f"{when} node {node} has {life}, which has never reached a client"
    for life in story.lives.values():
        is_open = life.opened is not None and life.opened < at and (life.closed is None or life.closed > at)
        if is_open and life.sid not in held and life.end < since:
            yield f"{when} the client of {life} still waits, though no node has it"
