"""``python -m benchmarks``: every case can be measured, and what cannot be measured is said."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

import benchmarks.__main__ as program
from benchmarks.cases import QUICK, WHOLE, Bench, Case, Readings, Scale
from benchmarks.contestants import ALL, BOTH_FORMS, CLUSTERED, FLOOR_IN_C, OURS, Contestant
from benchmarks.groups import GROUPS, choose
from benchmarks.machine import describe_commit, describe_machine, find_versions
from benchmarks.page import render_case
from benchmarks.processes import Cores, ServerFailed, family, free_port, on_core, serving
from benchmarks.record import Circumstances, Record
from tests.support.program import running

TINY = Scale(seconds=0.2, warmup=0, divisor=50)
AT = Circumstances("2030-01-02", "machine", "commit", 1, {})
CASES = choose([], TINY)


@pytest.fixture
def bench(generator: Path) -> Bench:
    """A bench that measures next to nothing, on the cores that there are."""
    allowed = sorted(os.sched_getaffinity(0))
    return Bench(Cores(allowed[0], allowed[-1]), TINY, generator)


def only(case: Case, *contestants: Contestant) -> Case:
    """Return a case with other contestants."""
    return dataclasses.replace(case, contestants=contestants)


#: Of clients that drop, another file has the tests.
MEASURED = [case for case in CASES if case.name != "echo-tls" and not case.name.startswith("drops")]


@pytest.mark.parametrize("case", MEASURED, ids=lambda case: case.name)
def test_every_case_finds_each_of_its_figures_for_our_server(case: Case, bench: Bench) -> None:
    (ours,) = (each for each in case.contestants if each.name == OURS.name)
    record = program.measure(bench, only(case, ours), AT)
    assert record.failures == {}
    assert set(record.readings[OURS.name]) == {row.key for row in case.rows}
    for row in case.rows:
        (reading,) = record.readings[OURS.name][row.key]
        assert reading.value > 0 or row.key.startswith("bytes")
    assert f"## {case.title}" in render_case(case.name, record)


def test_contestants_take_turns_and_slow_ones_have_one(bench: Bench) -> None:
    turns = []

    def measure(bench: Bench, contestant: Contestant) -> Readings:
        turns.append(contestant.name)
        yield from ()

    contestants = [dataclasses.replace(OURS, name=name, slow=name == "c") for name in "abc"]
    case = Case("x", "X", "About.", tuple(contestants), (), measure)
    program.measure(bench, case, msgspec.structs.replace(AT, rounds=3))
    assert "".join(turns) == "abcabab"


def test_what_a_contestant_found_before_it_failed_is_kept_and_the_others_go_on(
    floor_program: Path, bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    (echo,) = choose(["echo"], TINY)
    floor = dataclasses.replace(FLOOR_IN_C, command=lambda port: [str(floor_program), str(port)])
    wrong = dataclasses.replace(floor, name="wrong", speech=dataclasses.replace(floor.speech, message="2@"))
    absent = dataclasses.replace(floor, name="absent", command=lambda _: ["false"])
    record = program.measure(bench, only(echo, wrong, absent, floor), AT)
    assert set(record.failures) == {"wrong", "absent"}
    assert "ended with 1" in record.failures["absent"][0]
    assert set(record.readings["floor"]) == {"60", "1000", "64000"}
    assert "wrong failed: " not in capsys.readouterr().out


def test_a_server_that_ends_at_once_is_a_failure_with_what_it_printed() -> None:
    command = [sys.executable, "-c", "raise SystemExit('no licence')"]
    with pytest.raises(ServerFailed, match=r"ended with 1[\s\S]*no licence"), serving(command, free_port(), 0):
        pytest.fail("it does not run")


def test_a_server_that_ends_while_it_is_measured_is_a_failure(floor_program: Path) -> None:
    def kill_it() -> None:
        port = free_port()
        with serving([str(floor_program), str(port)], port, 0) as server:
            os.kill(server.pids[0], 9)
            os.waitid(os.P_PID, server.pids[0], os.WEXITED | os.WNOWAIT)

    with pytest.raises(ServerFailed, match="ended with -9"):
        kill_it()


def test_a_server_runs_on_its_core_with_all_that_it_starts_and_is_gone_afterwards(floor_program: Path) -> None:
    port = free_port()
    core = min(os.sched_getaffinity(0))
    before = os.sched_getaffinity(0)
    command = ["sh", "-c", f"{floor_program} {port}; true"]
    with serving(command, port, core) as server:
        pids = server.pids
        assert len(pids) == 2
        assert [os.sched_getaffinity(pid) for pid in pids] == [{core}, {core}]
    assert os.sched_getaffinity(0) == before
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in pids):  # what it started is no child of ours to wait for
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_process_and_its_descendants_are_a_family() -> None:
    with subprocess.Popen(["sh", "-c", "sleep 60; true"], start_new_session=True) as shell:
        while len(found := family(shell.pid)) < 2:
            pass
        assert found[0] == shell.pid
        assert os.getpid() not in found
        os.killpg(shell.pid, 9)


def test_the_cores_of_server_and_load_differ_and_one_core_is_not_enough() -> None:
    with on_core(min(os.sched_getaffinity(0))), pytest.raises(SystemExit, match="need two cores"):
        Cores.choose()


def test_cases_are_chosen_by_names_groups_or_beginnings() -> None:
    names = [case.name for case in CASES]
    assert len(names) == len(set(names))
    assert [case.name for case in choose(["idle", "echo"], WHOLE)] == ["echo", "idle"]
    for group, cases in GROUPS.items():
        assert group not in names
        assert [case.name for case in choose([group], QUICK)] == [case.name for case in cases(QUICK)]
    assert [case.name for case in choose(["handshakes"], WHOLE)] == ["handshakes-polling"]
    assert [case.name for case in choose(["echo-", "idle"], WHOLE)] == ["echo-polling", "echo-tls", "idle"]
    with pytest.raises(SystemExit, match=r"No case dance\. There are: .*echo"):
        choose(["dance"], WHOLE)


@pytest.mark.parametrize("scale", [WHOLE, QUICK, TINY])
def test_rows_and_contestants_have_names_of_their_own(scale: Scale) -> None:
    for case in choose([], scale):
        keys = [row.key for row in case.rows]
        assert len(keys) == len(set(keys))
    assert len({each.name for each in BOTH_FORMS}) == len(BOTH_FORMS) == len({each.title for each in BOTH_FORMS})
    assert set(ALL) < set(BOTH_FORMS)
    assert len({each.name for each in CLUSTERED}) == len(CLUSTERED)


def test_the_circumstances_are_known() -> None:
    assert "cores" in describe_machine()
    versions = find_versions()
    assert versions["Python"] == sys.version.split()[0]
    assert {"primacron", "uvloop", "msgspec", "gcc", "Node.js"} <= set(versions)
    assert describe_commit()


def test_a_case_is_kept_with_its_page_and_its_chart(tmp_path: Path) -> None:
    (echo,) = choose(["echo"], WHOLE)
    for name in ("echo", "idle"):
        program.keep(tmp_path, name, Record.begin(echo, AT), ["idle", "echo"])
    page = (tmp_path / "results.md").read_text()
    assert page.index("`CASE=idle`") < page.index("`CASE=echo`;")
    assert (tmp_path / "results.svg").read_text().startswith("<svg")
    assert (tmp_path / "results.json").exists()


async def test_the_plain_codec_is_not_measured() -> None:
    async with running("-c", "import sys; sys.argv[1:] = ['--quick']\n" + PLAIN) as measuring:
        assert await measuring.wait() == 1
    assert "The websocket codec is plain Python here" in measuring.printed


async def test_an_unknown_case_ends_with_a_list_of_those_that_exist() -> None:
    async with running("-c", "import sys; sys.argv[1:] = ['--case', 'dance']\n" + COMPILED) as measuring:
        assert await measuring.wait() == 1
    assert "No case dance. There are: " in measuring.printed


#: The program, with the codec told to be one or the other, whatever was built here.
PLAIN = "import primacron; primacron.compiled = False\nimport benchmarks.__main__ as program; program.main()"
COMPILED = PLAIN.replace("False", "True")
