"""Requests that wait for answers: each is settled once, by its answer or by the reason that there is none."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from primacron.cluster.items import NO_ID, Answer
from primacron.cluster.requests import NODE_GONE, TIMED_OUT, UNSENT, Requests
from primacron.ids import NodeId
from primacron.wheel import Wheel
from tests.cluster.ends import ELSEWHERE, THERE, time_that_stands
from tests.transports.world import Loop


class Desk:
    """The requests of one node, and what they were settled with."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.wheel = Wheel(loop)
        self.requests = Requests(self.wheel)
        self.settled: list[Answer] = []

    def ask(self, seconds: float = 1.0, node: NodeId = THERE) -> int:
        return self.requests.ask(node, seconds, self.settled.append)

    @property
    def deadlines(self) -> int:
        return len(self.wheel)


@pytest.fixture
def desk() -> Iterator[Desk]:
    with time_that_stands() as loop:
        yield Desk(loop)


def test_an_answer_settles_its_request_once(desk: Desk) -> None:
    id = desk.ask()
    answer = Answer(id, "accepted")
    assert desk.requests.take(answer, THERE)
    assert not desk.requests.take(answer, THERE)
    desk.loop.advance(5.0)
    assert desk.settled == [answer]
    assert len(desk.requests) == desk.deadlines == 0


def test_an_answer_may_come_from_the_node_to_which_the_request_was_passed_on(desk: Desk) -> None:
    answer = Answer(desk.ask(), "accepted")
    assert desk.requests.take(answer, ELSEWHERE)
    assert desk.settled == [answer]


@pytest.mark.parametrize("change", [-1, 1, 2**40])
def test_an_answer_to_a_request_that_nobody_made_settles_none(desk: Desk, change: int) -> None:
    id = desk.ask()
    assert not desk.requests.take(Answer(id + change, "accepted"), THERE)
    assert not desk.requests.take(Answer(NO_ID, "accepted"), THERE)
    assert desk.settled == []


def test_a_request_without_an_answer_times_out_not_before_its_time(desk: Desk) -> None:
    id = desk.ask(2.0)
    desk.loop.advance(1.9)
    assert desk.settled == []
    desk.loop.advance(0.3)
    assert desk.settled == [Answer(id, TIMED_OUT)]
    assert not desk.requests.take(Answer(id, "accepted"), THERE)
    assert len(desk.requests) == desk.deadlines == 0


def test_each_request_has_its_own_deadline(desk: Desk) -> None:
    late, early = desk.ask(3.0), desk.ask(1.0)
    desk.loop.advance(1.5)
    desk.requests.take(Answer(late, "accepted"), THERE)
    assert desk.settled == [Answer(early, TIMED_OUT), Answer(late, "accepted")]


def test_nobody_waits_for_a_node_that_is_gone(desk: Desk) -> None:
    ids = [desk.ask(), desk.ask(node=ELSEWHERE), desk.ask()]
    desk.requests.gone(THERE)
    assert desk.settled == [Answer(ids[0], NODE_GONE), Answer(ids[2], NODE_GONE)]
    assert desk.requests.take(Answer(ids[1], "accepted"), ELSEWHERE)


def test_a_request_that_was_not_sent_ends_with_the_reason(desk: Desk) -> None:
    id = desk.ask()
    desk.requests.end(id, UNSENT)
    desk.requests.end(id, TIMED_OUT)
    desk.requests.end(id + 1, UNSENT)
    assert desk.settled == [Answer(id, UNSENT)]


def test_a_request_that_was_dropped_is_settled_by_nothing(desk: Desk) -> None:
    id = desk.ask()
    desk.requests.drop(id)
    desk.requests.drop(id)
    assert len(desk.requests) == desk.deadlines == 0
    assert not desk.requests.take(Answer(id, "accepted"), THERE)
    assert desk.settled == []


def test_all_end_when_the_server_does(desk: Desk) -> None:
    ids = [desk.ask() for _ in range(3)]
    desk.requests.close_all(UNSENT)
    assert desk.settled == [Answer(id, UNSENT) for id in ids]
    assert len(desk.requests) == desk.deadlines == 0


def test_who_is_told_of_an_end_may_ask_again(desk: Desk) -> None:
    again: list[Answer] = []

    def ask_again(_: Answer) -> None:
        desk.requests.ask(ELSEWHERE, 1.0, again.append)

    desk.requests.ask(THERE, 1.0, ask_again)
    desk.requests.gone(THERE)
    assert len(desk.requests) == 1
    desk.loop.advance(1.5)
    assert [answer.status for answer in again] == [TIMED_OUT]


def test_no_two_requests_of_any_process_have_the_same_id() -> None:
    with time_that_stands() as loop:
        starts = [Requests(Wheel(loop)).next_id() for _ in range(100)]
        assert len(set(starts)) == 100
        assert NO_ID not in starts
        assert all(0 < start < 2**63 for start in starts)
        requests = Requests(Wheel(loop))
        ids = [requests.next_id() for _ in range(1000)]
        assert ids == [*range(ids[0], ids[0] + 1000)]
