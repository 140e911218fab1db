"""The turns of an event loop: how much of each goes to clients with much to read, and whose rest waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from primacron.turns import BUDGET, Turns


class Clock:
    """A clock that somebody moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Work:
    """Work of some clients that takes a whole turn each time, and in which order it was done."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.turns = Turns(asyncio.get_running_loop(), self.clock)
        self.done: list[str] = []

    def take(self, name: str, times: int, seconds: float = BUDGET) -> Callable[[], None]:
        """Return work that is done in so many turns."""

        def go_on() -> None:
            nonlocal times
            self.done.append(name)
            self.clock.now += seconds
            times -= 1
            if times:
                self.turns.defer(go_on)

        return go_on

    async def finish(self) -> int:
        """Wait until nothing waits any more; return how many turns that took."""
        count = 0
        while self.turns.has_more:
            count += 1
            assert count < 100
            await asyncio.sleep(0)
        return count


async def test_a_turn_begins_with_who_asks_first_and_lasts_for_its_budget() -> None:
    work = Work()
    assert not work.turns.is_over()
    work.clock.now += BUDGET * 0.9
    assert not work.turns.is_over()
    work.clock.now += BUDGET * 0.2
    assert work.turns.is_over()
    await asyncio.sleep(0)
    assert not work.turns.is_over()


async def test_what_takes_whole_turns_takes_them_one_after_another() -> None:
    work = Work()
    for name in "abc":
        work.turns.defer(work.take(name, 3))
    assert work.done == []
    await work.finish()
    assert "".join(work.done) == "abcabcabc"


async def test_what_takes_little_is_done_in_one_turn_but_nothing_twice_in_it() -> None:
    work = Work()
    for name in "abc":
        work.turns.defer(work.take(name, 2, BUDGET / 100))
    assert await work.finish() == 2
    assert "".join(work.done) == "abcabc"


async def test_who_has_had_nothing_of_a_turn_does_not_wait_behind_all_who_had() -> None:
    work = Work()
    for name in "abcdefgh":
        work.turns.defer(work.take(name, 2))
    work.turns.defer(work.take("X", 1), fresh=True)
    await work.finish()
    assert work.done.index("X") <= 1
    assert "".join(work.done).replace("X", "") == "abcdefghabcdefgh"


async def test_who_waits_has_a_turn_however_many_come_that_had_nothing() -> None:
    work = Work()
    work.turns.defer(work.take("waiting", 5))
    for number in range(20):
        work.turns.defer(work.take(str(number), 1), fresh=True)
    await work.finish()
    assert [place for place, name in enumerate(work.done) if name == "waiting"][-1] <= 10


async def test_a_turn_that_is_spent_by_what_waited_is_over_for_who_comes_then() -> None:
    work = Work()
    seen: list[bool] = []
    work.turns.defer(work.take("a", 1))
    asyncio.get_running_loop().call_soon(lambda: seen.append(work.turns.is_over()))
    await work.finish()
    assert (work.done, seen) == (["a"], [True])
