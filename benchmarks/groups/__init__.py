"""
The cases, a file for each group of them.

A group is a module here with a function ``cases``, from the scale to its cases;
``GROUPS`` names it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from benchmarks.cases import Case, Scale
from benchmarks.groups import cluster, connections, fairness, messages

GROUPS: Final[dict[str, Callable[[Scale], list[Case]]]] = {
    "messages": messages.cases,
    "connections": connections.cases,
    "greed": fairness.cases,
    "cluster": cluster.cases,
}


def choose(names: list[str], scale: Scale) -> list[Case]:
    """
    Return the cases of these names, or of the groups of these names; all of them if there are no names.

    Raises:
        SystemExit: if there is no such case.

    """
    groups = {name: cases(scale) for name, cases in GROUPS.items()}
    everything = [case for cases in groups.values() for case in cases]
    if not names:
        return everything
    known = groups | {case.name: [case] for case in everything}
    if unknown := [name for name in names if name not in known]:
        raise SystemExit(f"No case {', '.join(unknown)}. There are: {', '.join(known)}")
    chosen = {case.name for name in names for case in known[name]}
    return [case for case in everything if case.name in chosen]
