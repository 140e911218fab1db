"""Several servers with a Redis between them: sends across servers, the registry, roaming clients."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final

from benchmarks.cases import Bench, Case, Measured, Reading, Readings, Row, Scale
from benchmarks.clusters import Cluster, serve_cluster
from benchmarks.contestants import CLUSTERED, OURS_CLUSTERED, SOCKET_IO_CLUSTERED, Contestant
from benchmarks.processes import cpu_seconds

#: Sessions to which one message makes a node send, or which it looks up, in one burst.
BURST: Final = 200
#: Receivers of a fan-out.
RECEIVERS: Final = 1_000
#: Clients that connect, or whose sessions are registered.
MANY: Final = 10_000
#: Clients that each keep one message in flight.
ECHOING: Final = 50
#: Seconds to hold idle connections, enough for a heartbeat of each.
IDLE: Final = 27
#: Seconds after which new servers have settled into their normal rate of renewals.
SETTLING: Final = 6
#: Seconds within which all sessions are registered again.
REWRITING: Final = 15

WHERE: Final = "All nodes share a core, Redis and the load generator the other one; only CPU time is compared."


def cases(scale: Scale) -> list[Case]:
    """Return the cases of this group."""
    return [
        _forward_case(scale),
        _fanout_case(scale),
        _find_case(scale),
        _handshakes_case(scale),
        _registry_case(scale),
        _roaming_case(scale),
        _growth_case(scale),
    ]


def _forward_case(scale: Scale) -> Case:
    burst = scale.count(BURST)
    return Case(
        "cluster-forward",
        "Forwards to another server",
        f"CPU for a message to one session that another server is known to hold; {burst} of them, each to another "
        f"session, in one go. Nobody asks for receipts. With Socket.IO a room stands for a session. {WHERE}",
        CLUSTERED,
        (
            Row("sender", "sender", "µs/forward"),
            Row("redis", "Redis", "µs/forward"),
            Row("receiver", "receiver", "µs/forward"),
            Row("p50", "all there, p50", "ms", 2),
        ),
        partial(_forward, count=burst),
    )


def _fanout_case(scale: Scale) -> Case:
    receivers = scale.count(RECEIVERS)
    return Case(
        "cluster-fanout",
        "Fan-out to another server",
        f"A client of one server makes it send to all, who are {receivers:,} clients of another server. {WHERE}",
        CLUSTERED,
        (
            Row("nodes", "both servers", "µs/delivery", 2),
            Row("redis", "Redis", "µs/send", 0),
            Row("p50", "all have it, p50", "ms", 2),
            Row("burst", "both servers, in bursts of ten", "µs/delivery", 2),
        ),
        partial(_fanout, count=receivers),
    )


def _find_case(scale: Scale) -> Case:
    burst = scale.count(BURST)
    return Case(
        "cluster-find",
        "Finding sessions of another server",
        f"{burst} at a time. Socket.IO asks all servers for the members of a room; python-socketio cannot ask. {WHERE}",
        CLUSTERED[:2],
        (
            Row("node", "who asks", "µs/session"),
            Row("redis", "Redis", "µs/session"),
            Row("other", "who has them", "µs/session"),
            Row("rate", "sessions", "per second", 0, more_is_better=True),
        ),
        partial(_find, count=burst),
    )


def _handshakes_case(scale: Scale) -> Case:
    many = scale.count(MANY)
    return Case(
        "cluster-handshakes",
        "Handshakes by websocket, with Redis",
        f"{many:,} clients, 200 of them always on their way. Primacron writes each session down, so that every "
        "server finds it; with the others Redis knows no sessions.",
        CLUSTERED,
        (
            Row("rate", "handshakes", "per second", 0, more_is_better=True),
            Row("node", "server", "µs/handshake", 0),
            Row("redis", "Redis", "µs/handshake"),
        ),
        partial(_handshakes, count=many),
    )


def _registry_case(scale: Scale) -> Case:
    many = scale.count(MANY)
    return Case(
        "cluster-registry",
        "The registry",
        f"What Redis holds and does for {many:,} sessions by websocket, each of an account of its own, at one of "
        "two servers. Idle are all of them, for longer than a heartbeat. Then Redis is emptied, which the servers "
        "have to find out. Commands inside of scripts count.",
        (OURS_CLUSTERED,),
        (
            Row("bytes", "held", "bytes/session", 0),
            Row("commands", "a handshake", "commands"),
            Row("idle-none", "nobody there", "commands/s"),
            Row("idle-many", "all idle", "commands/s"),
            Row("again-seconds", "until all is written again", "s", 2),
            Row("again-commands", "that", "commands/session"),
            Row("again-node", "that, server", "µs/session"),
            Row("again-redis", "that, Redis", "µs/session"),
        ),
        partial(_registry, count=many),
    )


def _roaming_case(scale: Scale) -> Case:
    return Case(
        "cluster-roaming",
        "No sticky sessions",
        f"Clients that polled in at one server: {ECHOING} of them send all else to another one, which carries it "
        f"(a message is a POST, and its answer the end of a poll, echoed as elsewhere); {scale.count(2_000):,} "
        "change to a websocket at another server, where their sessions move. The others need sticky sessions for "
        f"both. {WHERE}",
        (OURS_CLUSTERED,),
        (
            Row("polls-rate", "carried messages", "per second", 0, more_is_better=True),
            Row("polls-carrier", "who carries", "µs/message", 0),
            Row("polls-owner", "who has the session", "µs/message", 0),
            Row("polls-redis", "Redis", "µs/message", 0),
            Row("moves-rate", "moves", "per second", 0, more_is_better=True),
            Row("moves-giver", "who gives", "µs/move", 0),
            Row("moves-taker", "who takes", "µs/move", 0),
            Row("moves-redis", "Redis", "µs/move", 0),
        ),
        partial(_roaming, moving=scale.count(2_000)),
    )


def _growth_case(scale: Scale) -> Case:
    burst, receivers = scale.count(BURST), scale.count(RECEIVERS)
    nodes = [2, 4, 8] if scale.divisor == 1 else [2, 3]
    return Case(
        "cluster-growth",
        "Growth with the number of servers",
        f"The same with more servers, over which the receivers are spread: fan-out to {receivers:,} sessions, and "
        f"{burst} forwards in one go.",
        (OURS_CLUSTERED, SOCKET_IO_CLUSTERED),
        (
            *(Row(f"fanout-{each}", f"fan-out, {each} servers", "µs/delivery", 2) for each in nodes),
            *(Row(f"sender-{each}", f"sender of forwards, {each}", "µs/forward") for each in nodes),
            *(Row(f"receivers-{each}", f"receivers of forwards, {each}", "µs/forward") for each in nodes),
        ),
        partial(_growth, nodes=nodes, burst=burst, receivers=receivers),
    )


def _send(
    bench: Bench, contestant: Contestant, cluster: Cluster, clients: int, trigger: str, burst: int = 1
) -> Measured:
    """Have the first client, at the first node, make that node send to all others, which are at the other nodes."""
    return bench.load(
        cluster.servers,
        contestant,
        mode="fanout",
        others=cluster.others(),
        clients=1 + clients,
        trigger=trigger,
        news=contestant.speech.news,
        burst=burst,
        seconds=bench.scale.seconds,
        warmup=bench.scale.warmup,
    )


def _p50(measured: Measured) -> float:
    assert measured.report.latency is not None
    return measured.report.latency.p50


def _forward(bench: Bench, contestant: Contestant, count: int) -> Readings:
    with serve_cluster(bench, contestant, 2) as cluster:
        measured = _send(bench, contestant, cluster, count, contestant.speech.write("each", 1 + count))
    sender, receiver, redis = measured.of_each_server(measured.report.run)
    yield "sender", measured.of_run(sender)
    yield "redis", measured.of_run(redis)
    yield "receiver", measured.of_run(receiver)
    yield "p50", measured.of_run(_p50(measured))


def _fanout(bench: Bench, contestant: Contestant, count: int) -> Readings:
    with serve_cluster(bench, contestant, 2) as cluster:
        measured = _send(bench, contestant, cluster, count, contestant.speech.trigger)
        *nodes, redis = measured.of_each_server(measured.report.run)
        yield "nodes", measured.of_run(sum(nodes))
        yield "redis", measured.of_run(redis * (1 + count))
        yield "p50", measured.of_run(_p50(measured))
        measured = _send(bench, contestant, cluster, count, contestant.speech.trigger, burst=10)
        yield "burst", measured.of_run(sum(measured.of_each_server(measured.report.run)[:-1]))


def _find(bench: Bench, contestant: Contestant, count: int) -> Readings:
    with serve_cluster(bench, contestant, 2) as cluster:
        # Each burst of look-ups ends with a send to all, so there are as many deliveries as look-ups.
        measured = _send(bench, contestant, cluster, count, contestant.speech.write("find", 1 + count))
    node, other, redis = measured.of_each_server(measured.report.run)
    yield "node", measured.of_run(node)
    yield "redis", measured.of_run(redis)
    yield "other", measured.of_run(other)
    yield "rate", measured.of_run(measured.report.run.per_s)


def _handshakes(bench: Bench, contestant: Contestant, count: int) -> Readings:
    with serve_cluster(bench, contestant, 1) as cluster:
        measured = bench.load(cluster.servers, contestant, mode="idle", clients=count, seconds=0.1)
    node, redis = measured.of_each_server(measured.connect)
    yield "rate", measured.of_connecting(measured.connect.per_s)
    yield "node", measured.of_connecting(node)
    yield "redis", measured.of_connecting(redis)


def _registry(bench: Bench, contestant: Contestant, count: int) -> Readings:
    idle = IDLE * bench.scale.seconds
    # Longer than everything measured meanwhile.
    held = idle + REWRITING * bench.scale.seconds
    with serve_cluster(bench, contestant, 2) as cluster, ThreadPoolExecutor(1) as aside:
        ledger = cluster.ledger
        keys, size = ledger.count_keys(), ledger.count_bytes()
        time.sleep(SETTLING * bench.scale.seconds)
        yield "idle-none", Reading(ledger.commands_per_second(idle / 3))
        before = ledger.count_commands()
        loading = aside.submit(bench.load, cluster.servers, contestant, mode="idle", clients=count, seconds=held)
        ledger.wait_for_keys(keys + count)
        yield "commands", Reading((ledger.count_commands() - before) / count)
        yield "bytes", Reading((ledger.count_bytes() - size) / count)
        yield "idle-many", Reading(ledger.commands_per_second(idle))
        yield from _rewrite(cluster, keys + count, count)
        loading.result()


def _rewrite(cluster: Cluster, keys: int, count: int) -> Readings:
    """Empty Redis, and measure how its keys come back."""
    ledger = cluster.ledger
    node, redis = cluster.nodes[0].pids, cluster.redis.pids
    before = ledger.count_commands(), cpu_seconds(node), cpu_seconds(redis)
    began = time.monotonic()
    ledger.forget_all()
    ledger.wait_for_keys(keys)
    yield "again-seconds", Reading(time.monotonic() - began)
    yield "again-commands", Reading((ledger.count_commands() - before[0]) / count)
    yield "again-node", Reading((cpu_seconds(node) - before[1]) * 1e6 / count)
    yield "again-redis", Reading((cpu_seconds(redis) - before[2]) * 1e6 / count)


def _roaming(bench: Bench, contestant: Contestant, moving: int) -> Readings:
    with serve_cluster(bench, contestant, 2) as cluster:
        then = cluster.nodes[1].port
        carried = bench.load(
            cluster.servers,
            contestant,
            mode="echo",
            transport="polling",
            then=then,
            message=contestant.speech.message,
            clients=bench.scale.count(ECHOING),
            seconds=bench.scale.seconds,
            warmup=bench.scale.warmup,
        )
        moved = bench.load(
            cluster.servers,
            contestant,
            mode="idle",
            transport="upgrade",
            then=then,
            clients=moving,
            ramp=50,
            seconds=0.1,
        )
    owner, carrier, redis = carried.of_each_server(carried.report.run)
    yield "polls-rate", carried.of_run(carried.report.run.per_s)
    yield "polls-carrier", carried.of_run(carrier)
    yield "polls-owner", carried.of_run(owner)
    yield "polls-redis", carried.of_run(redis)
    giver, taker, redis = moved.of_each_server(moved.connect)
    yield "moves-rate", moved.of_connecting(moved.connect.per_s)
    yield "moves-giver", moved.of_connecting(giver)
    yield "moves-taker", moved.of_connecting(taker)
    yield "moves-redis", moved.of_connecting(redis)


def _growth(bench: Bench, contestant: Contestant, nodes: list[int], burst: int, receivers: int) -> Readings:
    for number in nodes:
        with serve_cluster(bench, contestant, number) as cluster:
            fanout = _send(bench, contestant, cluster, receivers, contestant.speech.trigger)
            forward = _send(bench, contestant, cluster, burst, contestant.speech.write("each", 1 + burst))
        yield f"fanout-{number}", fanout.of_run(sum(fanout.of_each_server(fanout.report.run)[:-1]))
        sender, *others, _ = forward.of_each_server(forward.report.run)
        yield f"sender-{number}", forward.of_run(sender)
        yield f"receivers-{number}", forward.of_run(sum(others))
