"""Clients that are cut off again and again: what arrives at them, and whether their sessions survive."""

from __future__ import annotations

import asyncio
import itertools
import time
from dataclasses import asdict
from functools import partial
from typing import Final

from benchmarks.cases import Bench, Case, Reading, Readings, Row, Scale, load_seconds
from benchmarks.clusters import serve_cluster
from benchmarks.contestants import DROPPED, Contestant
from benchmarks.drops import Plan, drop_clients
from benchmarks.processes import Server, cpu_seconds, machine_seconds, on_core
from primacron.testing.proxied import Drop

#: Servers with a Redis between them.
NODES: Final = 2
KINDS: Final[dict[Drop, tuple[str, str]]] = {
    "clean": ("Clients that drop, and the server is told", "Both sides get a reset at once."),
    "half-open": (
        "Clients that drop, and the server is not told",
        "The client gets a reset, the server's side stays open and silent, as when a phone changes networks.",
    ),
}


def cases(scale: Scale) -> list[Case]:
    """Return the cases of this group."""
    return [_drops_case(scale, kind) for kind in KINDS]


def _drops_case(scale: Scale, kind: Drop) -> Case:
    seconds = max(60.0 / scale.divisor, 5.0)
    every = min(10.0, seconds / 2)
    plan = Plan(scale.dropped or scale.count(50), kind, seconds, every, every / 5)
    title, what = KINDS[kind]
    return Case(
        f"drops-{kind}",
        title,
        f"{plan.clients} clients by websocket, each behind a proxy of its own that cuts it for {plan.away:g} s every "
        f"{plan.every:g} s, at its own moment, and refuses it meanwhile. {what} For {plan.seconds:g} s the server "
        "sends 10 numbered messages a second to a room of all, and 2 to each client. What counts is what has arrived "
        "a second after all were back. The others' clients are their own, with their defaults; Primacron's are the "
        "benchmark's, and wait as long as Socket.IO's. How fast the machine is makes next to no difference.",
        DROPPED,
        (
            Row("room", "arrived in the room", "%", 2, more_is_better=True, against_floor=False),
            Row("direct", "arrived directly", "%", 2, more_is_better=True, against_floor=False),
            Row("returns", "returns", "clients", 0, against_floor=False),
            Row("recovered", "of them recovered", "sessions", 0, more_is_better=True, against_floor=False),
            Row("doubles", "came twice", "messages", 0, against_floor=False),
            Row("disorder", "out of order", "messages", 0, against_floor=False),
        ),
        partial(_drop, plan=plan),
    )


def _drop(bench: Bench, contestant: Contestant, plan: Plan) -> Readings:
    if contestant.clustered:
        with serve_cluster(bench, contestant, NODES) as cluster:
            yield from _measure(bench, contestant, cluster.nodes, cluster.servers, plan)
    else:
        with bench.serve(contestant) as server:
            yield from _measure(bench, contestant, [server], [server], plan)


def _measure(
    bench: Bench, contestant: Contestant, nodes: list[Server], all_of_them: list[Server], plan: Plan
) -> Readings:
    pids = [*itertools.chain(*(each.pids for each in all_of_them))]
    begin, machine, servers, own = time.monotonic(), machine_seconds(), cpu_seconds(pids), load_seconds()
    with on_core(bench.cores.load):
        arrivals = asyncio.run(drop_clients(contestant.clients, [node.port for node in nodes], plan))
    seconds = time.monotonic() - begin
    server, client = cpu_seconds(pids) - servers, load_seconds() - own
    others = max(machine_seconds() - machine - server - client, 0.0)
    for key, value in asdict(arrivals).items():
        if key != "recovered" or contestant.resumes:
            yield key, Reading(value, server / seconds, client / seconds, others / seconds)
