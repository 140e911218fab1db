"""The timing wheel: deadlines that move, end and come late."""

from __future__ import annotations

import asyncio
import gc
import math
import time
import weakref
from collections.abc import Callable

from primacron.wheel import RESOLUTION, Alarm, Timed, Wheel
from tests.transports.world import Loop

DEADLINE = 5.0


class Bell(Timed):
    """Rings once; tells when."""

    __slots__ = ("__weakref__", "rang")

    def __init__(self) -> None:
        self.bucket = None
        self.due = 0.0
        self.rang: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    def on_due(self, now: float) -> None:
        self.rang.set_result(now)


async def rung(bell: Bell) -> float:
    async with asyncio.timeout(DEADLINE):
        return await bell.rang


async def test_an_entry_is_called_when_it_is_due_and_not_before() -> None:
    loop = asyncio.get_running_loop()
    wheel, bell = Wheel(loop), Bell()
    due = loop.time() + 0.12
    wheel.set(bell, due)
    assert due <= await rung(bell) <= due + 1.0


def test_a_deadline_that_a_turn_misses_by_a_rounding_error_does_not_turn_the_wheel_for_ever() -> None:
    loop = Loop()
    wheel, due = Wheel(loop), 0.0
    rang: list[float] = []
    for tick in range(20_000, 20_100):
        due = math.nextafter(tick * RESOLUTION, math.inf)
        wheel.set(Alarm(lambda: rang.append(loop.now)), due)
        loop.now = tick * RESOLUTION
        loop.turn(times=4)
        loop.now = due + RESOLUTION
        loop.turn(times=4)
        assert due <= rang.pop() <= due + RESOLUTION
        assert not rang
    loop.close()


async def test_an_entry_moved_back_is_called_at_its_later_deadline() -> None:
    loop = asyncio.get_running_loop()
    wheel, bell = Wheel(loop), Bell()
    wheel.set_after(bell, 0.02)
    due = loop.time() + 0.2
    wheel.set(bell, due)
    assert await rung(bell) >= due


async def test_an_entry_moved_forward_is_called_at_its_earlier_deadline() -> None:
    wheel, bell = Wheel(asyncio.get_running_loop()), Bell()
    wheel.set_after(bell, 3600)
    wheel.set_after(bell, 0.02)
    await rung(bell)


async def test_a_cancelled_entry_is_never_called_and_no_longer_kept() -> None:
    wheel, bell, later = Wheel(asyncio.get_running_loop()), Bell(), Bell()
    wheel.set_after(bell, 0.05)
    wheel.set_after(later, 0.15)
    wheel.cancel(bell)
    await rung(later)
    assert not bell.rang.done()
    gone = weakref.ref(bell)
    del bell
    gc.collect()
    assert gone() is None


async def test_a_cancelled_entry_can_be_set_again() -> None:
    wheel, bell = Wheel(asyncio.get_running_loop()), Bell()
    wheel.set_after(bell, 0.05)
    wheel.cancel(bell)
    wheel.set_after(bell, 0.05)
    await rung(bell)


async def test_an_entry_that_raises_does_not_stop_the_wheel() -> None:
    loop = asyncio.get_running_loop()
    heard: list[object] = []
    loop.set_exception_handler(lambda _, context: heard.append(context["exception"]))
    wheel, bell = Wheel(loop), Bell()
    wheel.alarm(0.02, lambda: 1 / 0)
    wheel.set_after(bell, 0.02)
    await rung(bell)
    loop.set_exception_handler(None)
    assert [type(error) for error in heard] == [ZeroDivisionError]


async def test_a_late_wheel_lets_what_has_arrived_be_read_first() -> None:
    loop = asyncio.get_running_loop()
    wheel = Wheel(loop)
    order: list[str] = []
    reader, writer = await _pipe(lambda: order.append("read"))
    done = loop.create_future()

    def ring() -> None:
        order.append("rang")
        done.set_result(None)

    wheel.alarm(0.05, ring)
    writer.write(b"x")
    time.sleep(0.6)  # noqa: ASYNC251 (what an application must not do)
    await asyncio.wait_for(done, DEADLINE)
    assert order == ["read", "rang"]
    writer.close()
    reader.close()


async def _pipe(on_data: Callable[[], object]) -> tuple[asyncio.BaseTransport, asyncio.WriteTransport]:
    class Reader(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            on_data()

    loop = asyncio.get_running_loop()
    server = await loop.create_server(Reader, "127.0.0.1", 0)
    transport, _ = await loop.create_connection(asyncio.Protocol, *server.sockets[0].getsockname())
    await asyncio.sleep(0)
    server.close()
    return transport, transport


async def test_many_entries_in_one_turn_are_all_called() -> None:
    wheel = Wheel(asyncio.get_running_loop())
    bells = [Bell() for _ in range(1000)]
    for number, bell in enumerate(bells):
        wheel.set_after(bell, RESOLUTION * (number % 4))
    for bell in bells:
        await rung(bell)


async def test_the_lag_of_the_loop_is_seen() -> None:
    loop = asyncio.get_running_loop()
    wheel = Wheel(loop)
    wheel.watch_lag()
    later = Bell()
    wheel.set_after(later, 1.1)
    loop.call_later(0.9, time.sleep, 0.8)
    await rung(later)
    assert wheel.lag > 0.3
    wheel.close()
