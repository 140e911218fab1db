"""Clients that drop: what is counted of them, and that a network that is cut costs what it has to cost."""

from __future__ import annotations

import dataclasses
import sys

import pytest

from benchmarks.contestants import OURS_FORGETFUL
from benchmarks.drops import Arrivals, Plan, drop_clients
from benchmarks.load.received import Received
from benchmarks.processes import free_port, serving
from benchmarks.yardsticks import YardstickFailed
from primacron.testing.proxied import Drop

#: Each client is cut once, for 2 of the 20 messages to the room that it is sent.
ONCE = Plan(clients=3, kind="clean", seconds=2.0, every=10.0, away=0.2)


def test_what_arrives_is_counted_once_and_what_comes_again_or_late_by_itself() -> None:
    plan = dataclasses.replace(ONCE, clients=2, seconds=0.6)
    assert (plan.for_room, plan.for_each) == (6, 2)
    received = [Received([0, 2, 1, 1, 5], [0, 1], returns=2, recovered=1), Received([3, 4], [0, 0], returns=1)]
    assert Arrivals.count(received, plan) == Arrivals(
        room=50.0, direct=75.0, returns=3, recovered=1, doubles=2, disorder=1
    )


@pytest.mark.parametrize("kind", ["clean", "half-open"])
async def test_clients_whose_sessions_end_with_their_connections_miss_what_is_sent_meanwhile(kind: Drop) -> None:
    port = free_port()
    with serving(OURS_FORGETFUL.command(port), port, 0):
        plan = dataclasses.replace(ONCE, kind=kind, every=1.0)
        arrivals = await drop_clients(OURS_FORGETFUL.clients, [port], plan)
    assert arrivals.room < 90
    assert (arrivals.returns, arrivals.recovered) == (3, 0)
    assert (arrivals.doubles, arrivals.disorder) == (0, 0)


async def test_clients_that_are_not_cut_get_all() -> None:
    port = free_port()
    with serving(OURS_FORGETFUL.command(port), port, 0):
        arrivals = await drop_clients(OURS_FORGETFUL.clients, [port], dataclasses.replace(ONCE, away=10.0))
    assert arrivals == Arrivals(room=100.0, direct=100.0, returns=0, recovered=0, doubles=0, disorder=0)


async def test_a_program_of_clients_that_ends_is_a_failure() -> None:
    with pytest.raises(YardstickFailed, match="ended with 3"):
        await drop_clients([sys.executable, "-c", "raise SystemExit(3)"], [free_port()], ONCE)
