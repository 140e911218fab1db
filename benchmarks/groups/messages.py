"""Messages through one server: echo, fan-out, latency, TLS."""

from __future__ import annotations

from functools import partial
from typing import Final

from benchmarks.cases import Bench, Case, Measured, Reading, Readings, Row, Scale
from benchmarks.contestants import ALL, BOTH_FORMS, Contestant

#: Clients that each keep one message in flight. Fewer for large messages: some servers answer all clients in one batch,
#: and a second must hold many such batches.
ECHOING: Final = 200
ECHOING_LARGE: Final = 20
LARGE: Final = 64_000
#: Deliveries per burst above which contestants that take a tenth of a millisecond for each are skipped.
SLOW_DELIVERIES: Final = 10_000
TO_ALL: Final = "Server CPU for each delivery of a message that one client makes the server send to all."
SIZES: Final = {60: "60 bytes", 1_000: "1 kB", LARGE: "64 kB"}


def cases(scale: Scale) -> list[Case]:
    """Return the cases of this group."""
    polling = tuple(each for each in ALL if each.polling)
    return [
        Case(
            "echo",
            "Echo by websocket",
            "Server CPU for a message and its answer, of 200 clients (with 64 kB: 20) that keep one on its way. Events "
            "are decoded from JSON, checked, handled, and encoded as JSON; bare texts come back as they are.",
            tuple(each for each in BOTH_FORMS if each.echoes),
            _sizes(),
            partial(_echo, transport="websocket"),
        ),
        Case(
            "echo-polling",
            "Echo by polling",
            "The same, where each message is a POST and each answer the end of a poll.",
            tuple(each for each in BOTH_FORMS if each.polling),
            _sizes(),
            partial(_echo, transport="polling"),
        ),
        fanout_case(scale, "fanout", "Fan-out", TO_ALL, ALL, (1_000, 10_000)),
        fanout_case(scale, "fanout-polling", "Fan-out by polling", TO_ALL, polling, (1_000,), "polling"),
        Case(
            "latency",
            "Latency at half load",
            "Half of the messages per second that the same server answered at most, sent at a fixed rate to 200 "
            "clients in turn. Time counts from when a message was due, so what the load generator was late is part of "
            "it, and stands in the last column.",
            tuple(each for each in ALL if each.echoes),
            (
                Row("rate", "at", "messages/s", 0, more_is_better=True, against_floor=False),
                Row("p50", "p50", "ms", 3, against_floor=False),
                Row("p99", "p99", "ms", 3, against_floor=False),
                Row("p99.9", "p99.9", "ms", 3, against_floor=False),
                Row("late", "sent late, p99", "ms", 3, against_floor=False),
            ),
            _latency,
        ),
        Case(
            "echo-tls",
            "Echo over TLS",
            "As the echo by websocket; the certificate's key is on the curve P-256.",
            tuple(each for each in ALL if each.tls and each.echoes),
            _sizes(60, LARGE),
            partial(_echo, transport="websocket", tls=True, sizes=(60, LARGE)),
        ),
    ]


def _sizes(*sizes: int) -> tuple[Row, ...]:
    return tuple(Row(str(size), SIZES[size], "µs/message") for size in sizes or SIZES)


def _echo(
    bench: Bench, contestant: Contestant, transport: str, *, tls: bool = False, sizes: tuple[int, ...] = tuple(SIZES)
) -> Readings:
    with bench.serve(contestant, tls=tls) as server:
        more = {"tls": True} if tls else {}
        for size in sizes:
            measured = bench.load(
                server,
                contestant,
                mode="echo",
                transport=transport,
                message=contestant.speech.message,
                size=size,
                clients=ECHOING_LARGE if size == LARGE else ECHOING,
                seconds=bench.scale.seconds,
                warmup=bench.scale.warmup,
                **more,
            )
            yield str(size), _cpu(measured)


def _cpu(measured: Measured) -> Reading:
    return measured.of_run(measured.report.run.server_cpu_us)


def fanout_case(
    scale: Scale,
    name: str,
    title: str,
    about: str,
    contestants: tuple[Contestant, ...],
    sizes: tuple[int, ...],
    transport: str = "websocket",
) -> Case:
    """Return a case that measures what a delivery costs, for each number of clients."""
    counts = [scale.count(size) for size in sizes]
    bursts = {1: "", 10: ", in bursts of ten"}
    return Case(
        name,
        title,
        f"{about} In a burst, the one client asks ten times at once.",
        contestants,
        tuple(
            Row(f"{count}x{burst}", f"to {count:,}{words}", "µs/delivery", 2)
            for count in counts
            for burst, words in bursts.items()
        ),
        partial(_measure_fanout, counts=counts, bursts=tuple(bursts), transport=transport),
    )


def _measure_fanout(
    bench: Bench, contestant: Contestant, counts: list[int], bursts: tuple[int, ...], transport: str
) -> Readings:
    speech = contestant.speech
    with bench.serve(contestant) as server:
        for count in counts:
            for burst in bursts:
                if contestant.slow and count * burst > SLOW_DELIVERIES:
                    continue
                measured = bench.load(
                    server,
                    contestant,
                    mode="fanout",
                    transport=transport,
                    clients=count,
                    burst=burst,
                    trigger=speech.trigger,
                    news=speech.news,
                    seconds=bench.scale.seconds,
                    warmup=bench.scale.warmup,
                )
                yield f"{count}x{burst}", _cpu(measured)


def _latency(bench: Bench, contestant: Contestant) -> Readings:
    common = {"mode": "echo", "message": contestant.speech.message, "clients": ECHOING, "warmup": bench.scale.warmup}
    with bench.serve(contestant) as server:
        most = bench.load(server, contestant, seconds=bench.scale.seconds / 2, **common).report.run.per_s
        measured = bench.load(server, contestant, seconds=bench.scale.seconds * 2, rate=most / 2, **common)
    latency, late = measured.report.latency, measured.report.late
    assert latency is not None
    assert late is not None
    readings = {"rate": most / 2, "p50": latency.p50, "p99": latency.p99, "p99.9": latency.p999, "late": late.p99}
    for key, value in readings.items():
        yield key, measured.of_run(value)
