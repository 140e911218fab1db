"""Latency for one client while others send as fast as they can."""

from __future__ import annotations

from typing import Final

from benchmarks.cases import Bench, Case, Readings, Row, Scale
from benchmarks.contestants import ENGINE_IO, OURS, OURS_OUTER, PYTHON_ENGINEIO, Contestant, Speech

#: Numbers of greedy clients.
CROWDS: Final = (1, 4, 16)
KINDS: Final = {"small": "small messages", "heavy": "heavy ones", "noop": "NOOPs"}
#: Size of a small message in bytes.
SMALL: Final = 33
#: The most that Primacron accepts in one message, of numbers that some decoders read digit by digit.
NUMBERS: Final = ",".join(["1e308"] * 290)
#: Messages per second of the client that is measured.
RATE: Final = 250
#: Bytes that a greedy client writes at once.
BLOCK: Final = 65_536


def cases(scale: Scale) -> list[Case]:
    """Return the case of this group."""
    return [
        Case(
            "fairness",
            "Waiting beside greedy clients",
            f"The longest time that one client waits for its echo, of {RATE} a second, while 1, 4 or 16 others send as "
            f"fast as the server takes it: echoes of {SMALL} bytes, lists of 290 numbers `1e308` that are decoded, or "
            "NOOP packets.",
            (OURS, OURS_OUTER, ENGINE_IO, PYTHON_ENGINEIO),
            tuple(
                Row(f"{kind}x{crowd}", f"{crowd} x {title}, longest wait", "ms", 1, against_floor=False)
                for kind, title in KINDS.items()
                for crowd in CROWDS
            ),
            _measure,
        )
    ]


def _measure(bench: Bench, contestant: Contestant) -> Readings:
    for kind in KINDS:
        flood = _flood(contestant.speech, kind)
        for crowd in CROWDS:
            # A fresh server for each: unread input would carry over to the next run.
            with bench.serve(contestant) as server:
                measured = bench.load(
                    server,
                    contestant,
                    mode="greedy",
                    message=contestant.speech.message,
                    trigger=flood,
                    burst=max(BLOCK // (len(flood) + 6), 1),
                    clients=crowd + 1,
                    rate=RATE,
                    seconds=2 * bench.scale.seconds,
                    warmup=bench.scale.warmup,
                )
            latency = measured.report.latency
            assert latency is not None
            yield f"{kind}x{crowd}", measured.of_run(latency.max)


def _flood(speech: Speech, kind: str) -> str:
    if kind == "noop":
        return "6"
    if kind == "heavy":
        return speech.numbers.replace("NUMBERS", NUMBERS)
    bare = speech.message.replace("@", "")
    return speech.message.replace("@", "x" * max(SMALL - len(bare), 1))
