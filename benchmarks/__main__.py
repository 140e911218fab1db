"""``python -m benchmarks``: measures, and writes up the results."""

from __future__ import annotations

import argparse
import dataclasses
import datetime as dt
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

import primacron
from benchmarks.cases import QUICK, WHOLE, Bench, Case
from benchmarks.chart import render_chart
from benchmarks.contestants import BIN, CERTIFICATE
from benchmarks.groups import choose
from benchmarks.machine import describe_commit, describe_machine, find_versions
from benchmarks.page import render_case, render_page
from benchmarks.processes import Cores, ServerFailed, raise_limits
from benchmarks.record import Circumstances, Record, Records
from benchmarks.yardsticks import YardstickFailed, compile_floor, compile_load

FOLDER: Final = Path(__file__).parent
#: File descriptors per process: 15,000 connections and some to spare.
FILES: Final = 16_000


def main() -> int:
    """Run what the command line asks for; return 1 if anything could not be measured."""
    arguments = read_command_line()
    if not primacron.compiled:
        raise SystemExit(
            "The websocket codec is plain Python here, so figures would say nothing. "
            "Install a C compiler and Python's headers, then `make clean` and `make bench`."
        )
    scale = dataclasses.replace(QUICK if arguments.quick else WHOLE, dropped=arguments.clients)
    cases = choose(arguments.case, scale)
    cores = Cores.choose()
    raise_limits(FILES)
    prepare()
    at = Circumstances(
        f"{dt.datetime.now(dt.UTC):%Y-%m-%d %H:%M}",
        describe_machine(),
        describe_commit(),
        arguments.rounds or (1 if arguments.quick else 3),
        find_versions(),
    )
    # A quick run must not overwrite results that were measured properly.
    folder = arguments.results or (BIN / "quick" if arguments.quick else FOLDER)
    order = [case.name for case in choose([], scale)]
    bench = Bench(cores, scale)
    is_whole = True
    for case in cases:
        earlier = Records.read(folder / "results.json").cases.get(case.name) if arguments.again else None
        record = measure(bench, case, at, earlier)
        is_whole &= not record.failures
        keep(folder, case.name, record, order)
        print(f"\n{render_case(case.name, record)}", flush=True)
    print(f"Written: {folder / 'results.md'}, results.json, results.svg")
    return 0 if is_whole else 1


def read_command_line() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure Primacron and others.")
    parser.add_argument("--case", action="append", default=[], help="a case, a group, or how some begin; all otherwise")
    parser.add_argument("--rounds", type=int, help="how often each contestant has its turn (3; quick: 1)")
    parser.add_argument("--clients", type=int, help="how many clients drop (50; quick: 10)")
    parser.add_argument("--again", action="store_true", help="add a run to those that are known, hours later")
    parser.add_argument("--quick", action="store_true", help="show that everything works: few, short, kept elsewhere")
    parser.add_argument("--results", type=Path, help="the folder that results are kept in")
    return parser.parse_args()


def prepare() -> None:
    """Build the load generator, the floor and a certificate."""
    compile_floor(BIN)
    compile_load(BIN, tls=True)
    key = BIN / "key.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 -subj /CN=localhost"
    subprocess.run([*command.split(), "-keyout", key, "-out", CERTIFICATE], check=True, capture_output=True)
    CERTIFICATE.write_bytes(CERTIFICATE.read_bytes() + key.read_bytes())


def measure(bench: Bench, case: Case, at: Circumstances, earlier: Record | None = None) -> Record:
    """Measure a case: each contestant in turn, for as many rounds as asked, as a further run beside earlier ones."""
    record = Record.begin(case, at) if earlier is None else earlier.again(case, at)
    begin = time.monotonic()
    for number in range(at.rounds):
        for contestant in case.contestants:
            if number and contestant.slow:
                continue
            tell(f"{case.name}, round {number + 1} of {at.rounds}: {contestant.title}")
            try:
                for key, reading in case.measure(bench, contestant):
                    record.add(contestant.name, key, reading)
            except (ServerFailed, YardstickFailed) as error:
                record.fail(contestant.name, str(error))
                tell(f"{case.name}: {contestant.title} failed: {error}", last=True)
    tell(f"{case.name}: {time.monotonic() - begin:.0f} s", last=True)
    return record


def tell(what: str, *, last: bool = False) -> None:
    """Report progress: on a terminal in one line that is overwritten, elsewhere only the lines that stay."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{what}", end="\n" if last else "", file=sys.stderr, flush=True)
    elif last:
        print(what, file=sys.stderr, flush=True)


def keep(folder: Path, name: str, record: Record, order: list[str]) -> None:
    """Merge a case into the stored results, and regenerate the page and the chart."""
    records = Records.read(folder / "results.json")
    records.merge(name, record, order)
    records.write(folder / "results.json")
    (folder / "results.md").write_text(render_page(records))
    (folder / "results.svg").write_text(render_chart(records))


if __name__ == "__main__":
    sys.exit(main())
