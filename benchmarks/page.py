"""results.md: one table per case."""

from __future__ import annotations

from benchmarks.cases import Row
from benchmarks.record import CLIENT_BUSY, OTHERS_BUSY, Circumstances, Record, Records, Summary

CLIENT = "†"
DISTURBED = "‡"

INTRODUCTION = f"""\
# Results

Written by `make bench`, which measures it again; `make bench CASE=echo` measures one case. Figures compare only within
one run on one machine, so multiples of the floor say more than microseconds. The floor is
[a server in C](load/README.md#the-floor) that makes the system calls and does nothing else.

Server and load run on a core each. Contestants take turns, round after round; python-engineio and
python-socketio take long, and have one round. A cell has the median of the rounds, from the least to the most, and
the multiple of the floor; where there were several runs, its least and its most, as each run has a floor of its own.
What a contestant cannot do is `-`. picows (frames of websockets, and nothing else) and nchan (channels inside of nginx,
away from the application's code) do less, and are there for reference.

{CLIENT} says that the load generator was the bottleneck: it used over {CLIENT_BUSY:.0%} of its core, and more than the
server did. {DISTURBED} says that others used the machine meanwhile, over {OTHERS_BUSY:.0%} of a core.
"""


def render_page(records: Records) -> str:
    """Return the page as Markdown."""
    parts = [INTRODUCTION, _render_versions(records)]
    parts += [render_case(name, record) for name, record in records.cases.items()]
    return "\n".join(parts)


def render_case(name: str, record: Record) -> str:
    """Return the section of one case."""
    head = ["", *(f"{row.title}, {row.unit}" for row in record.rows)]
    lines = [head, ["---"] + ["---:"] * len(record.rows)]
    for contestant, title in record.contestants.items():
        cells = [_render_cell(record, contestant, row) for row in record.rows]
        lines.append([f"**{title}**" if contestant.startswith("primacron") else title, *cells])
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    failures = "".join(
        f"\n{record.contestants[contestant]} failed: {why}\n"
        for contestant, reasons in record.failures.items()
        for why in dict.fromkeys(reasons)
    )
    when = f"`CASE={name}`; {', and '.join(map(_render_when, (*record.earlier, record.circumstances)))}."
    return f"## {record.title}\n\n{record.about} {when}\n\n{table}\n{failures}"


def render_value(value: float, row: Row) -> str:
    """Format a figure with the precision of its row."""
    return f"{value:,.{row.digits}f}"


def render_ratios(ratios: list[float]) -> str:
    """Format multiples of the floor, from the lowest run to the highest."""
    return " to ".join(dict.fromkeys(f"{each:.2f}x" for each in (min(ratios), max(ratios))))


def _render_cell(record: Record, contestant: str, row: Row) -> str:
    summary = record.summary(contestant, row)
    if summary is None:
        return "failed" if contestant in record.failures else "-"
    parts = [f"**{render_value(summary.median, row)}**"]
    if summary.least != summary.most:
        parts.append(f"({render_value(summary.least, row)} to {render_value(summary.most, row)})")
    if ratios := record.ratios(contestant, row):
        parts.append(render_ratios(ratios))
    return " ".join(parts) + _render_marks(summary)


def _render_marks(summary: Summary) -> str:
    marks = (CLIENT if summary.client_was_the_limit else "") + (DISTURBED if summary.disturbed else "")
    return f" {marks}" if marks else ""


def _render_when(at: Circumstances) -> str:
    rounds = "1 round" if at.rounds == 1 else f"{at.rounds} rounds"
    return f"{rounds} on {at.date}, commit {at.commit}"


def _render_versions(records: Records) -> str:
    """Return the machines and the versions, each distinct set once."""
    told: dict[str, None] = {}
    for at in [at for record in records.cases.values() for at in (*record.earlier, record.circumstances)]:
        told[f"{at.machine}. {', '.join(f'{name} {version}' for name, version in at.versions.items())}.\n"] = None
    return "\n".join(told)
