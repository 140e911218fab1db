"""
The cases, in one module per group.

A group's module has a function ``cases`` that returns its cases at a scale;
``GROUPS`` lists it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from benchmarks.cases import Case, Scale
from benchmarks.groups import channels, cluster, connections, drops, fairness, messages

GROUPS: Final[dict[str, Callable[[Scale], list[Case]]]] = {
    "messages": messages.cases,
    "connections": connections.cases,
    "greed": fairness.cases,
    "channels": channels.cases,
    "drops": drops.cases,
    "cluster": cluster.cases,
}


def choose(names: list[str], scale: Scale) -> list[Case]:
    """
    Return the cases that the names select; all of them if there are no names.

    A name is that of a case or of a group, or else a prefix of the names of some cases.

    Raises:
        SystemExit: if a name selects no case.

    """
    groups = {name: cases(scale) for name, cases in GROUPS.items()}
    everything = [case for cases in groups.values() for case in cases]
    if not names:
        return everything
    known = groups | {case.name: [case] for case in everything}
    found = {name: known.get(name) or [case for case in everything if case.name.startswith(name)] for name in names}
    if unknown := [name for name, cases in found.items() if not cases]:
        raise SystemExit(f"No case {', '.join(unknown)}. There are: {', '.join(known)}")
    chosen = {case.name for cases in found.values() for case in cases}
    return [case for case in everything if case.name in chosen]
