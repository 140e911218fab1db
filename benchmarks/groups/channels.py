"""Channels: fan-out, joins and what a membership takes, history, many who join at once, many that are heard again."""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final

import redis

from benchmarks.cases import Bench, Case, Measured, Reading, Readings, Row, Scale
from benchmarks.clusters import Cluster, serve_cluster, wait_until
from benchmarks.contestants import (
    FLOOR_IN_C,
    NCHAN_CHANNEL,
    NEWS,
    OURS_CHANNELS,
    OURS_EVERYONE,
    OURS_JOINED,
    OURS_KEPT,
    SOCKET_IO_ROOMS,
    Contestant,
)
from benchmarks.groups.messages import fanout_case
from benchmarks.processes import Server, cpu_seconds
from primacron.config import READYZ

#: Clients whose memberships are weighed, and the rooms of each beside the first.
MEMBERS: Final = 5_000
FURTHER: Final = 100
#: Clients that each ask to join, and then to leave.
ASKING: Final = 200
#: Messages to channels in one go: to one with a member on another server each, and to those that only keep them.
EACH: Final = 200
BURST: Final = 1_000
#: Clients that join at once, and servers that they are spread over.
RUSHING: Final = 10_000
SERVERS: Final = 3
#: Sessions with a hundred channels each that nobody else is in.
HEARING: Final = 100
OWN: Final = 100
#: Seconds for which clients stay while channels are heard, and heard again: anyway, and for each second of a run.
HELD_ANYWAY: Final = 5
HELD: Final = 15


def cases(scale: Scale) -> list[Case]:
    """Return the cases of this group."""
    return [
        fanout_case(
            scale,
            "channels-fanout",
            "Fan-out in a channel",
            "Server CPU for each delivery of a message to a channel that all clients are in, beside the same to "
            "everyone. Clients that joined by themselves are told the name of the channel with each message; what has "
            "history is kept as well, here in memory.",
            (FLOOR_IN_C, OURS_CHANNELS, OURS_JOINED, OURS_KEPT, OURS_EVERYONE, SOCKET_IO_ROOMS, NCHAN_CHANNEL),
            (1_000, 10_000),
        ),
        _join_case(scale),
        _forward_case(scale),
        _history_case(scale),
        _rush_case(scale),
        _restart_case(scale),
    ]


def _join_case(scale: Scale) -> Case:
    members = scale.count(MEMBERS)
    return Case(
        "channels-join",
        "Joins, and what a membership takes",
        f"What {members:,} clients take more if the server puts each into one room at its handshake, and into "
        f"{FURTHER} more; the rooms are there already. Then {scale.count(ASKING)} clients ask to join a channel and to "
        "leave it, always one after the other; with Socket.IO that is an event with an acknowledgement.",
        (OURS_CHANNELS, SOCKET_IO_ROOMS),
        (
            Row("join", "a join by the server", "µs"),
            Row("bytes-first", "the first room", "bytes", 0),
            Row("bytes-further", "each further room", "bytes", 0),
            Row("ask", "a request of a client", "µs"),
            Row("rate", "requests", "per second", 0, more_is_better=True),
        ),
        partial(_join, members=members),
    )


def _forward_case(scale: Scale) -> Case:
    each = scale.count(EACH)
    return Case(
        "channels-forward",
        "Messages to channels of another server",
        f"CPU for a message to a channel whose one member is a client of another server; {each} of them in one go, "
        "each to another channel. With history Redis keeps each message as well.",
        (OURS_CHANNELS,),
        tuple(
            Row(f"{key}{suffix}", f"{title}{words}", "µs/message")
            for suffix, words in {"": "", "-kept": ", history"}.items()
            for key, title in {"sender": "sender", "redis": "Redis", "receiver": "receiver"}.items()
        ),
        partial(_forward, count=each),
    )


def _history_case(scale: Scale) -> Case:
    burst = scale.count(BURST)
    return Case(
        "channels-history",
        "Messages with history",
        f"One server sends to channels where nobody is, {burst:,} messages in one go, and waits until all are kept. "
        "Beside it what Redis itself takes for the least that could be meant, sent to it in bursts as large.",
        (OURS_CHANNELS,),
        (
            Row("node", "server", "µs/message"),
            Row("redis", "Redis", "µs/message"),
            Row("rate", "messages", "per second", 0, more_is_better=True),
            *(Row(f"redis-{name}", f"Redis alone, {title}", "µs/message") for name, (title, _) in BARE.items()),
        ),
        partial(_history, count=burst),
    )


def _rush_case(scale: Scale) -> Case:
    members = scale.count(RUSHING)
    return Case(
        "channels-rush",
        "All join at once",
        f"{members:,} clients of {SERVERS} servers ask to join the same channel, all in the same moment, until the "
        "last of them is answered. With presence they would be told of each other, but are too many: they are counted.",
        (OURS_CHANNELS, SOCKET_IO_ROOMS),
        tuple(
            Row(f"{key}{suffix}", f"{title}{words}", unit, digits)
            for suffix, words in {"": "", "-seen": ", presence"}.items()
            for key, title, unit, digits in (
                ("seconds", "until the last is in", "s", 2),
                ("nodes", "all servers", "µs/client", 0),
                ("redis", "Redis", "µs/client", 2),
            )
        ),
        partial(_rush, members=members),
    )


def _restart_case(scale: Scale) -> Case:
    count = scale.count(HEARING) * OWN
    return Case(
        "channels-restart",
        "Channels after a restart of Redis",
        f"One server has {count:,} channels with a member each. Redis is restarted, without anything of what it held: "
        "the time until all channels are heard again, and until the server says that it is ready.",
        (OURS_CHANNELS,),
        (
            Row("heard", "until all are heard", "s", 2),
            Row("ready", "until ready", "s", 2),
            Row("node", "server", "µs/channel"),
            Row("redis", "Redis", "µs/channel"),
        ),
        partial(_restart, sessions=scale.count(HEARING)),
    )


def _in_rooms(bench: Bench, contestant: Contestant, members: int, rooms: int) -> Measured:
    """Connect clients to a new server that puts each into some rooms."""
    with bench.serve(contestant) as server:
        query = f"account=a#&rooms={rooms}"
        return bench.load(
            server, contestant, mode="idle", clients=members, query=query, seconds=bench.scale.seconds / 2
        )


def _join(bench: Bench, contestant: Contestant, members: int) -> Readings:
    none, one, many = (_in_rooms(bench, contestant, members, rooms) for rooms in (0, 1, 1 + FURTHER))
    cpu = many.connect.server_cpu_us - none.connect.server_cpu_us
    yield "join", many.of_connecting(cpu / (1 + FURTHER))
    yield "bytes-first", Reading(one.bytes_per_connection - none.bytes_per_connection)
    yield "bytes-further", Reading((many.bytes_per_connection - one.bytes_per_connection) / FURTHER)
    speech = contestant.speech
    with bench.serve(contestant) as server:
        asked = bench.load(
            server,
            contestant,
            mode="echo",
            query="account=a#&rooms=0",
            message=speech.message,
            answer=speech.answer,
            undo=speech.undo,
            undone=speech.undone,
            clients=bench.scale.count(ASKING),
            seconds=bench.scale.seconds,
            warmup=bench.scale.warmup,
        )
    yield "ask", asked.of_run(asked.report.run.server_cpu_us)
    yield "rate", asked.of_run(asked.report.run.per_s)


def _send(bench: Bench, contestant: Contestant, cluster: Cluster, trigger: str, **options: object) -> Measured:
    """Have the first client make its server send, and all clients receive one message each."""
    return bench.load(
        cluster.servers,
        contestant,
        mode="fanout",
        trigger=trigger,
        news=contestant.speech.news,
        seconds=bench.scale.seconds,
        warmup=bench.scale.warmup,
        **options,
    )


def _forward(bench: Bench, contestant: Contestant, count: int) -> Readings:
    clients = {"clients": 1 + count, "query": "account=a#&own=1&kept=1"}
    with serve_cluster(bench, contestant, 2) as cluster:
        for suffix, event in {"": "each", "-kept": "each-kept"}.items():
            trigger = contestant.speech.write(event, 1 + count)
            measured = _send(bench, contestant, cluster, trigger, others=cluster.others(), **clients)
            sender, receiver, redis_itself = measured.of_each_server(measured.report.run)
            yield f"sender{suffix}", measured.of_run(sender)
            yield f"redis{suffix}", measured.of_run(redis_itself)
            yield f"receiver{suffix}", measured.of_run(receiver)


def _history(bench: Bench, contestant: Contestant, count: int) -> Readings:
    with serve_cluster(bench, contestant, 1) as cluster:
        measured = _send(bench, contestant, cluster, contestant.speech.write("publish", count), clients=1)
        node, redis_itself = measured.of_each_server(measured.report.run)
        yield "node", measured.of_run(node / count)
        yield "redis", measured.of_run(redis_itself / count)
        yield "rate", measured.of_run(measured.report.run.per_s * count)
    for name, (_, add) in BARE.items():
        with serve_cluster(bench, contestant, 0) as cluster:
            yield f"redis-{name}", Reading(_measure_bare(bench, cluster, add, count))


# What Redis takes for its own commands

#: As large as a message of ours with its envelope.
BODY: Final = NEWS.encode() * 4
SCRIPT: Final = (
    "local n = redis.call('RPUSH', KEYS[1], ARGV[1]) redis.call('LTRIM', KEYS[1], -100, -1) "
    "redis.call('PUBLISH', KEYS[1], ARGV[1]) return n"
)


def _add_publish(pipeline: Any, channel: str, _: str) -> None:
    pipeline.publish(channel, BODY)


def _add_transaction(pipeline: Any, channel: str, _: str) -> None:
    pipeline.execute_command("MULTI")
    pipeline.rpush(channel, BODY)
    pipeline.ltrim(channel, -100, -1)
    pipeline.publish(channel, BODY)
    pipeline.execute_command("EXEC")


def _add_script(pipeline: Any, channel: str, sha: str) -> None:
    pipeline.evalsha(sha, 1, channel, BODY)


Add = Callable[[Any, str, str], None]
BARE: Final[dict[str, tuple[str, Add]]] = {
    "publish": ("PUBLISH", _add_publish),
    "multi": ("RPUSH, LTRIM, PUBLISH in MULTI", _add_transaction),
    "script": ("the same in a script", _add_script),
}


def _measure_bare(bench: Bench, cluster: Cluster, add: Add, count: int) -> float:
    """Return the microseconds of Redis for each of many pieces of work that are sent in bursts."""
    with redis.Redis("127.0.0.1", cluster.redis.port) as client:
        sha = client.script_load(SCRIPT)
        pipeline = client.pipeline(transaction=False)
        done, before = 0, cpu_seconds(cluster.redis.pids)
        end = time.monotonic() + bench.scale.seconds
        while time.monotonic() < end:
            for number in range(count):
                add(pipeline, f"channel-{number % 100}", sha)
            pipeline.execute()
            done += count
        return (cpu_seconds(cluster.redis.pids) - before) * 1e6 / done


# Many at once


def _rush(bench: Bench, contestant: Contestant, members: int) -> Readings:
    speech = contestant.speech
    for suffix, kind in {"": "open:", "-seen": "seen:"}.items():
        if suffix and not contestant.name.startswith("primacron"):
            continue
        with serve_cluster(bench, contestant, SERVERS) as cluster:
            measured = bench.load(
                cluster.servers,
                contestant,
                mode="rush",
                query="account=a#&rooms=0",
                others=",".join(str(node.port) for node in cluster.nodes),
                clients=members,
                message=speech.message.replace("open:", kind),
                answer=speech.answer.replace("open:", kind).partition("}")[0],
            )
        *nodes, redis_itself = measured.of_each_server(measured.report.run)
        yield f"seconds{suffix}", measured.of_run(measured.report.run.secs)
        yield f"nodes{suffix}", measured.of_run(sum(nodes))
        yield f"redis{suffix}", measured.of_run(redis_itself)


def _restart(bench: Bench, contestant: Contestant, sessions: int) -> Readings:
    channels = sessions * OWN
    held = HELD_ANYWAY + HELD * bench.scale.seconds
    debug = ("--enable-debug-command", "local")  # to restart it without another process
    with serve_cluster(bench, contestant, 1, *debug) as cluster, ThreadPoolExecutor(1) as aside:
        ledger, (node,) = cluster.ledger, cluster.nodes
        all_of_them = ledger.count_subscribed() + channels
        query = f"account=a#&own={OWN}"
        clients = {"mode": "idle", "clients": sessions, "query": query, "seconds": held}
        loading = aside.submit(partial(bench.load, cluster.servers, contestant, **clients))
        ledger.wait_for_subscribed(all_of_them)
        node.come_to_rest()
        cpu = [cpu_seconds(each.pids) for each in cluster.servers]
        began = time.monotonic()
        ledger.restart()
        ledger.wait_for_subscribed(all_of_them)
        yield "heard", Reading(time.monotonic() - began)
        wait_until(lambda: _is_ready(node), "the server is ready")
        yield "ready", Reading(time.monotonic() - began)
        node.come_to_rest()
        cpu = [cpu_seconds(each.pids) - before for each, before in zip(cluster.servers, cpu, strict=True)]
        yield "node", Reading(cpu[0] * 1e6 / channels)
        yield "redis", Reading(cpu[1] * 1e6 / channels)
        loading.result()


def _is_ready(node: Server) -> bool:
    """Ask a server whether it is ready."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{node.port}{READYZ}", timeout=5) as answer:
            return bool(answer.status == 200)
    except urllib.error.HTTPError:
        return False
