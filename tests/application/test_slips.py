"""
What everybody gets wrong in the first hour, and what the terminal and the client say of it.

Each is a program in a process of its own, which has configured no logging, and a
client that a newcomer would take.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.docs.bundling import bundle, open_page
from tests.support.browser import chromium
from tests.support.program import ROOT, Program, running
from tests.support.redis import free_port

DEADLINE = 20.0
CLIENT = ROOT / "tests" / "js" / "newcomer.mjs"

SHOP = """
from primacron import HttpRequest, Primacron, Session

server = Primacron()


@server.event("bid")
def bid(session: Session, cents: int) -> str:
    return f"accepted: {cents}"


"""
RUN = '\n\nserver.run(0, "127.0.0.1")\n'


class Shop:
    """A program that serves."""

    def __init__(self, program: Program, port: int, file: Path) -> None:
        self.program = program
        self.port = port
        self.file = file

    async def serve(self, *emitted: str, account: str = "ann") -> str:
        """Connect with engine.io-client, emit an event, and return what the client prints."""
        return await run("node", CLIENT, str(self.port), *emitted, account=account)

    async def says(self) -> list[str]:
        """End the program and return what it printed, but for its start and its end."""
        await self.program.stop()
        return [line for line in self.program.printed.splitlines() if not line.startswith("primacron: ")]


async def run(*command: str | Path, account: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=CLIENT.parent,
        env={**os.environ, "ACCOUNT": account},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(DEADLINE):
        out, _ = await process.communicate()
    return out.decode().strip()


@contextlib.asynccontextmanager
async def shop(folder: Path, more: str = "", source: str = SHOP) -> AsyncIterator[Shop]:
    """Run a program which is this one and something more."""
    file = folder / "shop.py"
    file.write_text(source + more + RUN)
    async with running(file, cwd=folder) as program:
        found = await program.wait_for(r"listening on http://127\.0\.0\.1:(\d+)/stream/")
        yield Shop(program, int(found[1]), file)


async def refused(folder: Path, more: str) -> tuple[str, str]:
    """Run a program that ends at once; return the line of it that its traceback names last, and what it says there."""
    file = folder / "shop.py"
    file.write_text(SHOP + more + RUN)
    async with running(file, cwd=folder) as program:
        assert await program.wait() == 1
    lines = [int(each) for each in re.findall(rf'File "{file}", line (\d+)', program.printed)]
    return file.read_text().splitlines()[lines[-1] - 1], program.printed.splitlines()[-1]


async def test_no_account(tmp_path: Path) -> None:
    async with shop(tmp_path) as started:
        client = await started.serve("bid", "100", account="")
        (said,) = await started.says()
    assert client.startswith('xhr poll error 400: {"code":3,"message":"account is missing: ')
    assert said.startswith("error::refused: account is missing: ")
    assert said.endswith("; clients connect with ?account=NAME (GET '/stream/' from 127.0.0.1)")


async def test_no_return_in_authorize(tmp_path: Path) -> None:
    forgetful = """
@server.authorize
def authorize(request: HttpRequest) -> None:
    known = request.query.get("account") in ("ann", "ben")
"""
    async with shop(tmp_path, forgetful) as started:
        client = await started.serve("bid", "100")
        (said,) = await started.says()
    assert client == 'xhr poll error 403: {"code":4,"message":"Forbidden"}'
    assert said == (
        "error::handler: authorize returned None, which refuses: return the account, or True for the one that the "
        "query names; False or Refused says no (GET '/stream/' from 127.0.0.1)"
    )


async def test_no_parentheses_after_event(tmp_path: Path) -> None:
    line, said = await refused(tmp_path, "@server.event\ndef ask(session: Session, cents: int) -> None: ...\n")
    assert line == "@server.event"
    assert said == (
        "primacron.errors.RegistrationError: server.event takes a name first: write @server.event('bid') above ask"
    )


async def test_the_name_of_an_event_is_misspelt_by_the_client(tmp_path: Path) -> None:
    async with shop(tmp_path) as started:
        client = await started.serve("bidd", "100")
        (said,) = await started.says()
    assert "no validator for the event 'bidd'" in client
    assert said.startswith("error::validation: no validator for the event 'bidd'; did you mean 'bid'? (<Session ann/")


@pytest.mark.parametrize(
    ("slip", "says"),
    [
        ('@server.on("conection")', "the server has no event 'conection'; did you mean 'connection'?"),
        (
            '@server.on("error::validaton")',
            "the server has no event 'error::validaton'; did you mean 'error::validation'?",
        ),
        (
            '@server.on("bid")',
            (
                "the server has no event 'bid': @server.event('bid') handles what clients send, "
                "on('stream::bid') hears what was accepted"
            ),
        ),
    ],
)
async def test_the_name_of_an_event_of_the_server_is_misspelt(tmp_path: Path, slip: str, says: str) -> None:
    line, said = await refused(tmp_path, f"{slip}\ndef enter(session: Session) -> None: ...\n")
    assert line == slip
    assert said == f"primacron.errors.RegistrationError: {says}"


async def test_the_name_of_a_stream_is_misspelt(tmp_path: Path) -> None:
    line, said = await refused(tmp_path, '@server.on("stream::bidd")\ndef hear(session: Session) -> None: ...\n')
    assert line == 'server.run(0, "127.0.0.1")'
    number = 1 + (tmp_path / "shop.py").read_text().splitlines().index('@server.on("stream::bidd")')
    assert said == (
        f"primacron.errors.RegistrationError: hear ({tmp_path / 'shop.py'}, line {number}) listens for 'stream::bidd', "
        "but there is no event 'bidd'; did you mean 'stream::bid'?"
    )


async def test_the_name_of_an_option_is_misspelt(tmp_path: Path) -> None:
    line, said = await refused(tmp_path, 'server = Primacron(orgins="*")')
    assert line == 'server = Primacron(orgins="*")'
    assert said.startswith(
        "primacron.errors.UnknownOption: unknown option 'orgins'; did you mean 'origins'? known are "
    )


async def test_a_parameter_without_a_type(tmp_path: Path) -> None:
    line, said = await refused(tmp_path, '@server.event("ask")\ndef ask(session, cents): ...\n')
    assert line == '@server.event("ask")'
    assert said == (
        "primacron.errors.RegistrationError: handler of 'ask': parameter 'cents' has no type: "
        "write `cents: int` or the like; Any accepts everything"
    )


async def test_a_handler_that_raises(tmp_path: Path) -> None:
    broken = """
@server.event("share")
def share(session: Session, parts: int) -> float:
    return 100 / parts
"""
    async with shop(tmp_path, broken) as started:
        client = await started.serve("share", "0")
        said, *traceback = await started.says()
    assert client == 'message: {"ack":1,"error":{"type":"handler","message":"the handler failed","path":""}}'
    assert said.startswith("error::handler: ZeroDivisionError: division by zero (<Session ann/")
    assert said.endswith(">, event 'share')")
    assert "      return 100 / parts" in traceback
    assert f'    File "{started.file}", line {line_of(started, "return 100")}, in share' in traceback
    assert traceback[-1] == "  ZeroDivisionError: division by zero"


async def test_a_listener_that_raises(tmp_path: Path) -> None:
    broken = """
@server.on("connection")
def enter(session: Session) -> None:
    session.send_everything("hello")
"""
    async with shop(tmp_path, broken) as started:
        client = await started.serve("bid", "100")
        said, *traceback = await started.says()
    assert client == 'message: {"ack":1,"args":["accepted: 100"]}'
    assert said.startswith("error::handler: AttributeError: ")
    assert "Session' object has no attribute 'send_everything' (<Session ann/" in said
    assert said.endswith(">, event 'connection')")
    assert f'    File "{started.file}", line {line_of(started, "send_everything")}, in enter' in traceback


async def test_redis_is_down(tmp_path: Path) -> None:
    port = free_port()
    async with shop(tmp_path, source=SHOP.replace("Primacron()", f'Primacron("redis://127.0.0.1:{port}")')) as started:
        await started.program.wait_for(
            f"; Redis at 127.0.0.1:{port} does not answer, and new clients are accepted meanwhile; 1 process\n"
        )
        client = await started.serve("bid", "100")
        link, registry, *_ = await started.says()
    assert client == 'message: {"ack":1,"args":["accepted: 100"]}'
    assert link.startswith("error::bus: the link to the other servers is down: ")
    assert f"connecting to 127.0.0.1:{port}" in link
    assert registry.startswith("error::connect: the registry did not store session ")


async def test_a_page_on_another_port(tmp_path: Path) -> None:
    entry = tmp_path / "page.js"
    entry.write_text(CLIENT.read_text().replace("process.argv.slice(2)", "[PORT]").replace("process.exit()", "0"))
    async with shop(tmp_path) as started, chromium() as browser:
        script = (await bundle(entry)).replace("PORT", str(started.port)).replace("process.env.ACCOUNT", '"ann"')
        _, printed = await open_page(browser, script, "http://localhost:5173")
        async with asyncio.timeout(DEADLINE):
            while not any("xhr poll error" in line for line in printed):
                await asyncio.sleep(0.02)
        (said,) = await started.says()
    assert any("blocked by CORS policy" in line or "option 'origins'" in line for line in printed)
    assert said.startswith(
        "error::refused: origin 'http://localhost:5173' may not connect, option 'origins' allows that of the host, "
    )
    assert said.endswith("; Primacron(origins=['http://localhost:5173']) lets it in (GET '/stream/' from 127.0.0.1)")


def line_of(started: Shop, words: str) -> int:
    """Return the number of the only line of a program with these words."""
    (number,) = [number for number, line in enumerate(started.file.read_text().splitlines(), 1) if words in line]
    return number
