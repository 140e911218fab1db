"""
The work that a message, a handshake and a session cost stays what it is.

Counted are the instructions of the interpreter, of fixed pieces of work in
memory, as multiples of a loop that is counted in the same run. Why those: what
was measured in twenty runs each, on a busy machine,

- instructions of the interpreter: the same to the last one for codec, echo and
  fan-out; 0.1 % apart by polling, 0.2 % for handshakes. Python 3.11, 3.12 and
  3.13 are 5 % apart. They need no tool, and two seconds;
- instructions of the processor (cachegrind): 0.1 % apart, and nearly as good
  between Python versions, but four runs of five to fifteen seconds each, a
  package to install, and one kind of processor;
- the processor's own counters (perf) are not there in many virtual machines;
- CPU time: up to five times as much.

The child process uses the plain codec, because the interpreter does not see
the instructions of the compiled one, and a fixed seed for hashes. What only the
compiled form costs, ``make bench`` measures.

A session's bytes are those of our objects, by tracemalloc: 1 % apart.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks.counting import ROUNDS, count, count_rounds
from tests.benchmarks.fixed_work import Reference

KEPT: dict[str, float] = json.loads(Path(__file__).with_name("fixed_work.json").read_text())
TOLERANCE = 0.1
ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def found() -> dict[str, float]:
    """What the pieces take now."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.fixed_work"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


@pytest.mark.parametrize("piece", KEPT)
def test_a_piece_of_work_takes_what_it_took(piece: str, found: dict[str, float]) -> None:
    change = found[piece] / KEPT[piece] - 1
    assert abs(change) <= TOLERANCE, (
        f"{piece}: {found[piece]} instead of {KEPT[piece]}, {change:+.0%}. If that is meant, keep the new figures: "
        "python -m tests.benchmarks.fixed_work > tests/benchmarks/fixed_work.json"
    )


def test_every_piece_is_compared(found: dict[str, float]) -> None:
    assert found.keys() == KEPT.keys()


def test_counting_is_exact() -> None:
    def twice() -> None:
        reference.run()
        reference.run()

    reference = Reference()
    once = count(reference.run)
    assert once == count(reference.run) > 100
    of_calling = count(lambda: None)
    assert 2 * once < count(twice) < 2 * once + of_calling + 20


def test_what_is_called_is_counted_and_nothing_is_left_behind() -> None:
    def loop() -> None:
        for _ in range(100):
            reference.add(1, 1)

    reference = Reference()
    before = sys.gettrace()
    assert count_rounds(loop) > ROUNDS * 100 * 5
    assert sys.gettrace() == before
