"""Connections of one server: their memory, the rate of handshakes, and the cost of having many."""

from __future__ import annotations

from functools import partial
from typing import Final

from benchmarks.cases import Bench, Case, Reading, Readings, Row, Scale
from benchmarks.contestants import ALL, ENGINE_IO, FLOOR_IN_C, OURS, PICOWS, Contestant

POLLING: Final = tuple(each for each in ALL if each.polling)


def cases(scale: Scale) -> list[Case]:
    """Return the cases of this group."""
    return [
        _idle_case(scale),
        _polling_handshakes_case(scale),
        _upgrade_case(scale),
        _storm_case(scale),
        _growth_case(scale),
    ]


def _idle_case(scale: Scale) -> Case:
    idle = [scale.count(5_000), scale.count(15_000)]
    return Case(
        "idle",
        "Idle connections, and handshakes by websocket",
        f"Resident memory of the server for each connection, in a new process for each number of them; and how "
        f"many of the {idle[-1]:,} a second it took in, 200 of them always on their way.",
        ALL,
        (
            *(Row(f"bytes-{count}", f"{count:,} connections", "bytes each", 0, against_floor=False) for count in idle),
            Row("handshakes", "handshakes", "per second", 0, more_is_better=True),
        ),
        partial(_idle, counts=idle),
    )


def _polling_handshakes_case(scale: Scale) -> Case:
    return Case(
        "handshakes-polling",
        "Handshakes by polling",
        "One after another over 64 connections that are kept. Socket.IO's handshake has a second step, and is not "
        "compared.",
        tuple(each for each in POLLING if each.one_step),
        (Row("handshakes", "handshakes", "per second", 0, more_is_better=True),),
        partial(_polling_handshakes, count=scale.count(20_000)),
    )


def _upgrade_case(scale: Scale) -> Case:
    upgrading = scale.count(2_000)
    return Case(
        "upgrade",
        "From polling to websocket",
        f"{upgrading:,} clients connect by polling and change to a websocket, 200 of them always on their way.",
        POLLING,
        (
            Row("cpu", "server CPU", "µs/client", 0),
            Row("clients", "clients", "per second", 0, more_is_better=True),
        ),
        partial(_upgrade, count=upgrading),
    )


def _storm_case(scale: Scale) -> Case:
    storm = scale.count(10_000)
    return Case(
        "storm",
        "All come back at once",
        f"{storm:,} clients lose their connections and connect again, all in the same moment.",
        ALL,
        (
            Row("seconds", "until the last is back", "s", 2),
            Row("cpu", "server CPU", "µs/client", 0),
        ),
        partial(_storm, count=storm),
    )


def _growth_case(scale: Scale) -> Case:
    growing = [scale.count(each) for each in (100, 1_000, 10_000)]
    return Case(
        "growth",
        "Growth",
        "Whether a message and a connection cost the same among many as among few: echo of 60 bytes, where every "
        "connection keeps one message on its way.",
        (FLOOR_IN_C, OURS, ENGINE_IO, PICOWS),
        (
            *(Row(f"cpu-{count}", f"among {count:,}", "µs/message") for count in growing),
            *(
                Row(f"bytes-{count}", f"{count:,} connections", "bytes each", 0, against_floor=False)
                for count in growing
            ),
        ),
        partial(_growth, counts=growing),
    )


def _idle(bench: Bench, contestant: Contestant, counts: list[int]) -> Readings:
    for count in counts:
        with bench.serve(contestant) as server:
            measured = bench.load(server, contestant, mode="idle", clients=count, seconds=bench.scale.seconds / 2)
        yield f"bytes-{count}", Reading(measured.bytes_per_connection)
        if count == counts[-1]:
            yield "handshakes", measured.of_connecting(measured.connect.per_s)


def _polling_handshakes(bench: Bench, contestant: Contestant, count: int) -> Readings:
    with bench.serve(contestant) as server:
        measured = bench.load(server, contestant, mode="handshakes", transport="polling", clients=64, count=count)
    yield "handshakes", measured.of_run(measured.report.run.per_s)


def _upgrade(bench: Bench, contestant: Contestant, count: int) -> Readings:
    with bench.serve(contestant) as server:
        measured = bench.load(server, contestant, mode="idle", transport="upgrade", clients=count, seconds=0.1)
    yield "cpu", measured.of_connecting(measured.connect.server_cpu_us)
    yield "clients", measured.of_connecting(measured.connect.per_s)


def _storm(bench: Bench, contestant: Contestant, count: int) -> Readings:
    with bench.serve(contestant) as server:
        measured = bench.load(server, contestant, mode="storm", clients=count)
    yield "seconds", measured.of_run(measured.report.run.secs)
    yield "cpu", measured.of_run(measured.report.run.server_cpu_us)


def _growth(bench: Bench, contestant: Contestant, counts: list[int]) -> Readings:
    for count in counts:
        with bench.serve(contestant) as server:
            measured = bench.load(
                server,
                contestant,
                mode="echo",
                message=contestant.speech.message,
                clients=count,
                seconds=bench.scale.seconds,
                warmup=bench.scale.warmup,
            )
        yield f"cpu-{count}", measured.of_run(measured.report.run.server_cpu_us)
        yield f"bytes-{count}", Reading(measured.bytes_per_connection)
