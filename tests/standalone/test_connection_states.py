"""The tables of a connection that speaks HTTP and of its requests: each pair that is there, each that is not."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from primacron.standalone.connection_states import (
    CHANGES,
    COMPLETE,
    STEPS,
    WAITING,
    Change,
    Progress,
    Stage,
    Step,
    change,
    step,
)

# Written down again, so that a change of a table is a decision and not a slip.

STAGES = {
    Stage.SERVING: {
        Change.HANDSHAKE: Stage.UPGRADING,
        Change.LAST: Stage.ENDING,
        Change.ANSWER: Stage.DRAINING,
        Change.CLOSE: Stage.CLOSED,
    },
    Stage.UPGRADING: {Change.ANSWER: Stage.DRAINING, Change.CLOSE: Stage.CLOSED},
    Stage.ENDING: {Change.ANSWER: Stage.DRAINING, Change.CLOSE: Stage.CLOSED},
    Stage.DRAINING: {Change.CLOSE: Stage.CLOSED},
    Stage.CLOSED: {},
}
REQUESTS = {
    Progress.BODY: {Step.TURN: Progress.BEGUN, Step.END: Progress.WHOLE, Step.ANSWER: Progress.ANSWERED},
    Progress.WHOLE: {Step.TURN: Progress.ANSWERING, Step.ANSWER: Progress.ANSWERED},
    Progress.BEGUN: {Step.END: Progress.ANSWERING, Step.ANSWER: Progress.ANSWERED},
    Progress.ANSWERING: {Step.ANSWER: Progress.ANSWERED},
    Progress.ANSWERED: {},
}
FIRST = {Progress.BODY, Progress.WHOLE}


@pytest.mark.parametrize(("stage", "event"), list(itertools.product(Stage, Change)))
def test_a_connection_changes_as_its_table_says_and_no_other_way(stage: Stage, event: Change) -> None:
    after = STAGES[stage].get(event)
    assert CHANGES.get((stage, event)) is after
    assert change(stage, event) is (after or stage)


@pytest.mark.parametrize(("progress", "event"), list(itertools.product(Progress, Step)))
def test_a_request_goes_on_as_its_table_says_and_no_other_way(progress: Progress, event: Step) -> None:
    after = REQUESTS[progress].get(event)
    assert STEPS.get((progress, event)) is after
    assert step(progress, event) is (after or progress)


def test_every_stage_and_every_progress_is_reached_and_can_end() -> None:
    assert {Stage.SERVING, *CHANGES.values()} == set(Stage)
    assert FIRST | set(STEPS.values()) == set(Progress)
    assert {stage for stage in Stage if change(stage, Change.CLOSE) is Stage.CLOSED} == set(Stage)
    assert {each for each in Progress if step(each, Step.ANSWER) is Progress.ANSWERED} == set(Progress)


@given(st.lists(st.sampled_from(Change)))
def test_a_connection_that_reads_no_more_requests_never_does_again_and_gives_one_last_answer(
    events: list[Change],
) -> None:
    stage, last_answers = Stage.SERVING, 0
    for event in events:
        after = change(stage, event)
        assert stage is Stage.SERVING or after is not Stage.SERVING
        last_answers += after is Stage.DRAINING and stage is not Stage.DRAINING
        stage = after
    assert last_answers <= 1


@given(st.sampled_from(sorted(FIRST, key=str)), st.lists(st.sampled_from(Step)))
def test_the_order_of_a_turn_and_an_end_makes_no_difference_to_a_request(first: Progress, events: list[Step]) -> None:
    progress, seen = first, {Step.END} if first is Progress.WHOLE else set()
    for event in events:
        progress = step(progress, event)
        seen.add(event)
        if Step.ANSWER in seen:
            assert progress is Progress.ANSWERED
        else:
            assert (progress in COMPLETE, progress not in WAITING) == (Step.END in seen, Step.TURN in seen)
