"""What nobody listens for is in the log of the library, and what somebody hears is not."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from primacron import Context, LinkBack, LinkLost, Primacron, Session
from primacron.logs import LOGGER
from tests.conftest import Serve
from tests.support.engine import Client
from tests.support.hearing import Hearing
from tests.support.lines import Lines

DEADLINE = 10.0


def shop() -> Primacron:
    server = Primacron()

    @server.event("bid")
    def bid(session: Session, cents: int) -> None:
        if cents == 1:
            raise KeyError("lot")
        raise ZeroDivisionError("nothing to divide")

    @server.event("ping")
    def ping(session: Session) -> None:
        session.emit("pong")

    return server


async def settle(client: Any) -> None:
    """Wait until all that a client has sent is handled."""
    await client.emit("ping")
    assert (await client.receive())["event"] == "pong"


async def test_a_handler_that_raises_is_an_error_with_its_traceback(serve: Serve, lines: Lines) -> None:
    client = await (await serve(shop())).connect("account=ann")
    await client.emit("bid", 1)
    record = await lines.next()
    assert record.levelno == logging.ERROR
    assert record.getMessage().startswith("error::handler: KeyError: 'lot' (<Session ann/")
    assert record.getMessage().endswith(">, event 'bid')")
    assert record.exc_text is not None
    assert 'raise KeyError("lot")' in record.exc_text


async def test_each_place_that_raises_is_written_once_a_minute_however_often_it_does(
    serve: Serve, lines: Lines
) -> None:
    server = shop()
    client = await (await serve(server)).connect()
    for _ in range(200):
        await client.emit("bid", 1)
        await client.emit("bid", 2)
    await settle(client)
    assert [each.getMessage().split()[1] for each in lines.records] == ["KeyError:", "ZeroDivisionError:"]
    assert server.metrics["error::handler"] == 400
    lines.records.clear()
    await server.destroy()
    counts = [each.getMessage().split(" (")[0] for each in lines.records if "more like it" in each.getMessage()]
    assert counts == [
        "199 more like it: error::handler: KeyError: 'lot'",
        "199 more like it: error::handler: ZeroDivisionError: nothing to divide",
    ]


@pytest.mark.parametrize("event", ["error::*", "error::handler"])
async def test_what_a_listener_hears_is_not_written(serve: Serve, lines: Lines, event: str) -> None:
    server = shop()
    heard = Hearing(server, event)
    client = await (await serve(server)).connect()
    await client.emit("bid", 1)
    await heard.next_error()
    await settle(client)
    assert lines.records == []


async def test_what_a_listener_of_another_error_does_not_hear_is_written(serve: Serve, lines: Lines) -> None:
    server = shop()
    heard = Hearing(server, "error::validation")
    client = await (await serve(server)).connect()
    await client.emit("bid", 1)
    assert (await lines.next()).getMessage().startswith("error::handler: KeyError")
    assert heard.is_empty


async def test_a_listener_of_errors_that_raises_is_written_and_told_to_nobody(serve: Serve, lines: Lines) -> None:
    server = shop()

    @server.on("error::*")
    def hear(error: Exception, context: Context) -> None:
        raise OSError("the pager is broken")

    client = await (await serve(server)).connect()
    await client.emit("bid", 1)
    record = await lines.next()
    assert record.getMessage() == "error::handler: OSError: the pager is broken (event 'error::handler')"
    assert record.exc_text is not None
    assert "in hear" in record.exc_text
    await settle(client)
    assert lines.records == []
    assert server.metrics["error::handler"] == 2


async def test_a_listener_that_raises_is_written_with_the_event_it_heard(serve: Serve, lines: Lines) -> None:
    server = shop()

    @server.on("connection")
    async def enter(session: Session) -> None:
        raise AttributeError("no such thing")

    client = await (await serve(server)).connect("account=ann")
    record = await lines.next()
    assert record.getMessage().startswith("error::handler: AttributeError: no such thing (<Session ann/")
    assert record.getMessage().endswith("event 'connection')")
    await settle(client)


async def test_an_event_that_does_not_exist_is_a_warning_with_the_nearest(serve: Serve, lines: Lines) -> None:
    client = await (await serve(shop())).connect("account=ann")
    await client.emit("bidd", 1)
    record = await lines.next()
    assert record.levelno == logging.WARNING
    assert record.getMessage().startswith(
        "error::validation: no validator for the event 'bidd'; did you mean 'bid'? (<Session ann/"
    )
    await client.emit("sell")
    assert "no validator for the event 'sell'; @server.event('sell') registers one" in (await lines.next()).getMessage()


async def test_arguments_that_are_refused_are_warnings_without_a_traceback(serve: Serve, lines: Lines) -> None:
    client = await (await serve(shop())).connect()
    await client.emit("bid", "much")
    record = await lines.next()
    assert record.getMessage().startswith("error::validation: Expected `int`, got `str`")
    assert record.exc_info is None


async def test_a_hook_that_says_nothing_is_written_in_one_line(serve: Serve, lines: Lines) -> None:
    server = shop()

    @server.authorize
    def authorize(request: object) -> None: ...

    front: Client = await serve(server)
    response = await front.fetch("GET", "/stream/?EIO=4&transport=polling&account=ann")
    assert response.status == 403
    record = await lines.next()
    assert record.levelno == logging.ERROR
    assert record.getMessage().startswith("error::handler: authorize returned None, which refuses: return the account")
    assert "(GET '/stream/' from 127.0.0.1)" in record.getMessage()
    assert record.exc_info is None


async def test_a_page_of_another_origin_is_written_with_the_option_that_lets_it_in(serve: Serve, lines: Lines) -> None:
    front = await serve(shop())
    headers = {"Origin": "http://localhost:5173"}
    await front.fetch("GET", "/stream/?EIO=4&transport=polling&account=ann", headers)
    assert "Primacron(origins=['http://localhost:5173']) lets it in" in (await lines.next()).getMessage()


async def test_a_page_that_was_opened_as_a_file_is_told_what_it_lacks(serve: Serve, lines: Lines) -> None:
    front = await serve(shop())
    await front.fetch("GET", "/stream/?EIO=4&transport=polling&account=ann", {"Origin": "null"})
    assert "a page that was opened as a file has no origin: serve it by HTTP" in (await lines.next()).getMessage()


async def test_every_change_of_the_link_is_written(lines: Lines) -> None:
    async with Primacron() as server:
        for _ in range(2):
            server.problem(LinkLost("it does not answer"))
            server.problem(LinkBack(1.5))
    assert [each.getMessage() for each in lines.records] == 2 * [
        "error::bus: the link to the other servers is down: it does not answer",
        "error::bus: the link to the other servers is back after 1.5 s",
    ]


async def test_an_exception_that_cannot_say_what_it_is_breaks_nothing(serve: Serve, lines: Lines) -> None:
    server = shop()

    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    @server.event("mute")
    def mute(session: Session) -> None:
        raise Mute

    client = await (await serve(server)).connect()
    await client.emit("mute", id=1)
    assert (await client.receive())["error"]["type"] == "handler"
    assert (await lines.next()).getMessage().startswith("error::handler: Mute: Mute (")


async def test_a_log_that_raises_is_counted_and_breaks_nothing(serve: Serve) -> None:
    def broken(record: logging.LogRecord) -> bool:
        raise OSError("no space left")

    server = shop()
    client = await (await serve(server)).connect()
    LOGGER.addFilter(broken)
    try:
        await client.emit("bid", 1)
        await settle(client)
    finally:
        LOGGER.removeFilter(broken)
    assert server.metrics["error::handler"] == 2


async def test_with_log_errors_every_error_goes_there_and_none_here(
    serve: Serve, lines: Lines, caplog: pytest.LogCaptureFixture
) -> None:
    server = shop()
    server.log_errors(logging.getLogger("shop"))
    client = await (await serve(server)).connect()
    for _ in range(3):
        await client.emit("bid", 1)
    await settle(client)
    records = [each for each in caplog.records if each.name == "shop"]
    assert len(records) == 3
    assert all(each.exc_text is not None and "KeyError" in each.exc_text for each in records)
    assert lines.records == []
