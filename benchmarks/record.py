"""The measurements as stored in results.json, from which the page and the chart are made."""

from __future__ import annotations

from pathlib import Path
from statistics import median

import msgspec

from benchmarks.cases import Case, Reading, Row

#: Above this share of its core, and above the server's, the load generator was the bottleneck.
CLIENT_BUSY = 0.9
#: Cores used by unrelated processes above which a figure counts as disturbed.
OTHERS_BUSY = 0.1


class Circumstances(msgspec.Struct, frozen=True):
    """When and where a case was measured, and at which commit."""

    date: str
    machine: str
    commit: str
    rounds: int
    versions: dict[str, str]


class Record(msgspec.Struct):
    """One case, as last measured, together with the runs that it extends."""

    title: str
    about: str
    circumstances: Circumstances
    #: In page order.
    rows: list[Row]
    contestants: dict[str, str]
    #: By contestant and row: one reading per round.
    readings: dict[str, dict[str, list[Reading]]]
    #: Failures, by contestant.
    failures: dict[str, list[str]] = {}
    #: The earlier runs, oldest first.
    earlier: list[Circumstances] = []

    @classmethod
    def begin(cls, case: Case, circumstances: Circumstances) -> Record:
        """Return an empty record of a case."""
        names = {each.name: each.title for each in case.contestants}
        return cls(case.title, case.about, circumstances, list(case.rows), names, {name: {} for name in names})

    def again(self, case: Case, circumstances: Circumstances) -> Record:
        """Return the record of a further run, which keeps the readings of this one."""
        record = Record.begin(case, circumstances)
        record.earlier = [*self.earlier, self.circumstances]
        keys = {row.key for row in record.rows}
        for name, rows in self.readings.items():
            if name in record.readings:
                record.readings[name] = {key: [*readings] for key, readings in rows.items() if key in keys}
        return record

    def add(self, contestant: str, key: str, reading: Reading) -> None:
        """Add one round's reading."""
        reading = msgspec.structs.replace(reading, run=len(self.earlier))
        self.readings[contestant].setdefault(key, []).append(reading)

    def fail(self, contestant: str, why: str) -> None:
        """Record why a contestant could not be measured, on one line."""
        self.failures.setdefault(contestant, []).append(" ".join(why.split()))

    def summary(self, contestant: str, row: Row) -> Summary | None:
        """Summarise the rounds, or return None if nothing was measured."""
        readings = self.readings.get(contestant, {}).get(row.key, [])
        return Summary.of(readings) if readings else None

    def ratios(self, contestant: str, row: Row) -> list[float]:
        """Return the figure as a multiple of the floor's, one per run; empty if that means nothing."""
        if not row.against_floor or contestant == "floor":
            return []
        runs = range(len(self.earlier) + 1)
        pairs = [(self._median("floor", row, run), self._median(contestant, row, run)) for run in runs]
        return [own / floor for floor, own in pairs if floor and own is not None]

    def _median(self, contestant: str, row: Row, run: int) -> float | None:
        values = [each.value for each in self.readings.get(contestant, {}).get(row.key, []) if each.run == run]
        return median(values) if values else None


class Summary(msgspec.Struct, frozen=True):
    """The readings of several rounds, summarised."""

    median: float
    least: float
    most: float
    client_was_the_limit: bool
    disturbed: bool

    @classmethod
    def of(cls, readings: list[Reading]) -> Summary:
        """Summarise readings."""
        values = [each.value for each in readings]
        client = median(each.client_busy for each in readings)
        server = median(each.server_busy for each in readings)
        return cls(
            median(values),
            min(values),
            max(values),
            client > CLIENT_BUSY and client > server,
            median(each.others for each in readings) > OTHERS_BUSY,
        )


class Records(msgspec.Struct):
    """All cases by name, in page order."""

    cases: dict[str, Record] = {}

    @classmethod
    def read(cls, file: Path) -> Records:
        """Load a file, or start empty if there is none."""
        return msgspec.json.decode(file.read_bytes(), type=cls) if file.exists() else cls()

    def merge(self, name: str, record: Record, order: list[str]) -> None:
        """Replace one case, and sort all of them by ``order``; cases that it does not name are dropped."""
        cases = self.cases | {name: record}
        self.cases = {each: cases[each] for each in order if each in cases}

    def write(self, file: Path) -> None:
        """Write the file, indented and in a stable order that keeps diffs small."""
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(msgspec.json.format(msgspec.json.encode(self), indent=1) + b"\n")
