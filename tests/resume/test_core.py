"""A client whose session survives its connections, without I/O: what it counts, keeps, sends again and gives up."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings

from tests.resume.core import (
    BadServer,
    Closing,
    Core,
    Heard,
    Message,
    Moving,
    Opened,
    State,
    is_counted,
)
from tests.resume.counting import WINDOW
from tests.resume.world import STORIES, World


def event(number: int, **more: Any) -> Message:
    return {"event": "number", "args": [number], **more}


def answer(**about: Any) -> Message:
    """Return a session event, by default that of a new session."""
    common = {"account": "a", "session": "s", "token": "t", "window": WINDOW, "recovered": False, "taken": 0, "run": 0}
    return {"event": "session", "args": [{**common, "lost": None, "channels": {}, **about}]}


def opened_core(*sent: Message, received: int = 0) -> Core:
    """Return a core with an open session, that has sent and received messages in it."""
    core = Core()
    core.begin(0)
    core.receive(1, answer(), 0)
    for each in sent:
        core.send(each)
    core.to_write(0)
    for number in range(received):
        core.receive(1, event(number), 0)
    return core


def back(core: Core, now: float = 1, **about: Any) -> tuple[Message, Heard | None]:
    """Come back by a new connection; return the first message, and what was made of the answer to it."""
    first = core.begin(now)
    return first["session"], core.receive(core.connection, answer(**about), now)


# The beginning


def test_nothing_is_written_before_the_session_is_open() -> None:
    core = Core()
    core.send(event(1))
    assert core.come(0) == {"resume": "1"}
    assert core.begin(0) == {"session": {}}
    assert core.to_write(0) == []
    heard = core.receive(1, answer(), 0)
    assert heard == Opened(recovered=False, lost=None, session="s", channels={})
    assert core.to_write(0) == [event(1)]
    assert core.to_write(0) == []


def test_a_client_that_was_never_answered_asks_for_a_new_session_again() -> None:
    core = Core()
    core.begin(0)
    assert core.begin(1) == {"session": {}}
    assert core.receive(1, answer(), 1) is None
    assert core.state is State.OPENING
    core.lose(2)
    assert core.begin(2) == {"session": {}}


# Coming back


def test_it_returns_what_it_counted_and_the_server_told() -> None:
    core = opened_core(received=3)
    core.lose(1)
    assert core.come(1) == {"resume": "1", "again": "1"}
    first, heard = back(core, recovered=True)
    assert first == {"token": "t", "taken": 3, "run": 0, "attempt": 1}
    assert heard == Opened(recovered=True, lost=None, session="s", channels={})
    core.receive(2, event(4), 1)
    assert core.begin(1, {"room": ("e", 7)})["session"] == {**first, "taken": 4, "attempt": 2, "at": {"room": ("e", 7)}}


def test_what_the_server_has_taken_is_not_sent_again() -> None:
    core = opened_core(event(1), event(2), event(3))
    core.send(event(4))
    back(core, recovered=True, taken=2)
    assert core.to_write(1) == [event(3), event(4)]
    core.receive(2, {"taken": 4}, 1)
    assert core.unconfirmed == []


def test_what_the_server_took_while_it_was_connected_is_forgotten() -> None:
    core = opened_core(event(1), event(2))
    assert core.receive(1, {"taken": 1}, 0) is None
    assert core.unconfirmed == [event(2)]
    core.send(event(3))
    assert core.to_write(0) == [event(3)]


def test_at_partial_the_rest_is_sent_again_and_both_directions_begin_at_0() -> None:
    core = opened_core(event(1), event(2), received=5)
    _, heard = back(core, recovered="partial", taken=1, run=1, lost={"messages": 2, "exact": True, "channels": []})
    assert isinstance(heard, Opened)
    assert heard.dropped == ()
    assert core.to_write(1) == [event(2)]
    core.receive(2, {"taken": 1}, 1)
    assert core.unconfirmed == []
    assert back(core, recovered=True, taken=1, run=1)[0] == {"token": "t", "taken": 0, "run": 1, "attempt": 2}


@pytest.mark.parametrize(("recovered", "run", "token"), [("channels", 1, "t"), (False, 0, "other")])
def test_where_the_server_cannot_know_only_what_has_a_key_or_is_new_is_sent(
    recovered: str | bool, run: int, token: str
) -> None:
    core = opened_core(event(1), event(2, key="k"))
    core.send(event(3))
    _, heard = back(core, recovered=recovered, taken=None, run=run, token=token)
    assert isinstance(heard, Opened)
    assert heard.dropped == (event(1),)
    assert core.to_write(1) == [event(2, key="k"), event(3)]
    assert core.begin(1)["session"]["attempt"] == (2 if token == "t" else 1)


def test_a_key_is_not_used_again_when_the_window_of_its_first_sending_has_passed() -> None:
    core = opened_core(event(1, key="k"))
    core.touch(1, WINDOW)
    _, heard = back(core, WINDOW + 1, recovered="channels", taken=None, run=1)
    assert isinstance(heard, Opened)
    assert heard.dropped == (event(1, key="k"),)


def test_what_a_lost_session_had_taken_is_not_counted_as_dropped() -> None:
    core = opened_core(event(1), event(2))
    _, heard = back(core, recovered=False, taken=1, token="other", lost={"session": "ended"})
    assert heard == Opened(False, {"session": "ended"}, "s", {}, (event(2),))


def test_a_lost_first_message_costs_an_attempt() -> None:
    core = opened_core()
    assert [core.begin(1)["session"]["attempt"] for _ in range(3)] == [1, 2, 3]


# The older connection


@pytest.mark.parametrize(
    "message", [event(9), {"taken": 9}, {"move": {"after": 1, "reason": "drain"}}, answer(run=7)], ids=str
)
def test_what_the_older_connection_still_brings_is_ignored(message: Message) -> None:
    core = opened_core(received=1)
    core.begin(1)
    assert core.receive(1, message, 1) is None
    core.lose(1)
    assert core.state is State.RETURNING
    assert core.received == 1


def test_the_end_of_the_older_connection_is_none_of_the_session() -> None:
    core = opened_core()
    back(core, recovered=True)
    superseded = {"close": {"code": 4501, "reason": "superseded", "again": False, "after": 0}}
    assert core.receive(1, superseded, 1) is None
    assert core.state is State.OPEN


# What the server asks


def test_a_move_is_told_and_not_counted() -> None:
    core = opened_core()
    assert core.receive(1, {"move": {"after": 5, "reason": "drain"}}, 0) == Moving(5, "drain")
    assert core.received == 0
    assert core.state is State.OPEN


@pytest.mark.parametrize("is_open", [True, False])
def test_a_close_says_whether_to_come_again(is_open: bool) -> None:
    core = opened_core()
    close = {"code": 1013, "reason": "try later", "again": True, "after": 2}
    if not is_open:
        core.begin(1)
    assert core.receive(core.connection, {"close": close}, 1) == Closing(1013, "try later", True, 2)
    core.lose(core.connection)
    assert "token" in core.begin(2)["session"]
    core.receive(core.connection, {"close": close | {"again": False}}, 2)
    assert core.state is State.ENDED
    with pytest.raises(BadServer, match="ENDED"):
        core.begin(3)


# The window


def test_a_session_that_was_not_heard_of_for_its_window_is_given_up() -> None:
    core = opened_core(event(1))
    core.touch(1, 10)
    core.lose(1)
    assert "again" in core.come(WINDOW + 9)
    assert "token" in core.begin(WINDOW + 9)["session"]
    core.touch(2, WINDOW + 9)  # let in, but not answered
    assert core.come(WINDOW + 10) == {"resume": "1"}
    first, heard = back(core, WINDOW + 10, token="other")
    assert first == {}
    assert heard == Opened(False, {"session": "expired"}, "s", {}, (event(1),))
    assert core.begin(WINDOW + 11)["session"] == {"token": "other", "taken": 0, "run": 0, "attempt": 1}


def test_at_a_server_where_nothing_is_resumed_each_connection_is_a_new_session() -> None:
    core = Core()
    core.begin(0)
    core.receive(1, answer(token=None, window=0), 0)
    core.send(event(1))
    assert core.to_write(0) == [event(1)]
    assert core.unconfirmed == []
    assert core.receive(1, {"taken": 1}, 0) is None
    core.lose(1)
    core.send(event(2))
    assert core.come(1) == {"resume": "1"}
    first, heard = back(core, token=None, window=0)
    assert first == {}
    assert heard == Opened(recovered=False, lost=None, session="s", channels={})
    assert core.to_write(1) == [event(2)]


# What the server must not do


@pytest.mark.parametrize(
    ("message", "why"),
    [
        ({"taken": 2}, "2 messages taken"),
        ({"taken": -1}, "-1 messages taken"),
        (answer(), "session event while OPEN"),
    ],
)
def test_a_server_that_breaks_the_rules_is_told_so(message: Message, why: str) -> None:
    core = opened_core(event(1))
    core.send(event(2))  # which is not written yet
    with pytest.raises(BadServer, match=why):
        core.receive(1, message, 0)


@pytest.mark.parametrize(("recovered", "run"), [(True, 1), ("partial", 0), ("partial", 2), ("channels", 0), (False, 1)])
def test_a_server_whose_run_does_not_follow_is_told_so(recovered: bool | str, run: int) -> None:
    with pytest.raises(BadServer, match=f"in run {run}, the client is in run 0"):
        back(opened_core(), recovered=recovered, run=run)


def test_a_message_before_the_session_event_is_against_the_rules() -> None:
    core = opened_core()
    core.begin(1)
    with pytest.raises(BadServer, match="RETURNING"):
        core.receive(2, event(1), 1)


@pytest.mark.parametrize(
    ("message", "counts"),
    [
        (event(1), True),
        ({"ack": 1, "args": []}, True),
        ({"channel": "room", "left": "kicked"}, True),
        ({"event": "x", "taken": 1}, True),
        ({"taken": 1}, False),
        ({"move": {}}, False),
        ({"close": {}}, False),
        ({"taken": 1, "more": 2}, True),
        ({"other": 1}, True),
    ],
)
def test_what_is_counted(message: Message, counts: bool) -> None:
    assert is_counted(message) is counts


# All together


@settings(max_examples=1_000)
@given(STORIES)
def test_whatever_drops_both_sides_count_the_same_and_all_arrives_once_and_in_order_or_is_told(
    steps: list[tuple[str, int]],
) -> None:
    World(Core()).play_all(steps)
