"""Three servers, their Redis, the balancer before them and everybody's records."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import socket
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

from primacron.testing.promises import (
    AnyRecord,
    Died,
    Holds,
    Limits,
    Place,
    Stored,
    Trouble,
    decode_records,
    findings,
)
from primacron.testing.promises.owners import find_unlike_reality
from primacron.testing.promises.story import Story
from tests.promises.clients import KINDS, Returning
from tests.promises.stores import STORES, Store
from tests.support.http import fetch
from tests.support.nginx import Nginx, nginx_before
from tests.support.node import FOLDER
from tests.support.program import Program, running
from tests.support.proxy import RedisProxy
from tests.support.redis import RedisProcess, in_thread

PROGRAM: Final = "tests.promises.program"
NAMESPACE: Final = "promises"
#: Seconds of the heartbeat.
PING: Final = 3.0
LIMITS: Final = Limits(two_owners=6.0, dead=6.0, receipt=8.0, linger=2 * PING + 6.0, healed=6.0)
#: Seconds until all are ready, and know each other.
READY_WITHIN: Final = 20.0
#: Seconds by which this process may be late, through which the servers reach Redis.
LATE: Final = 0.4
#: Seconds in which a server tells what it sees, when something has gone wrong.
ANSWERS_WITHIN: Final = 5.0


class Server:
    """One server, started as often as it ends; what it runs is given what it has to know."""

    def __init__(
        self, port: int, given: dict[str, Any], program: str = PROGRAM, proxy: RedisProxy | None = None
    ) -> None:
        self.port = port
        #: Its name in the cluster; another one for each start.
        self.node = ""
        #: Whether it is there, and not ending.
        self.is_up = False
        self._given = {**given, "port": port}
        self._runs = program
        self._proxy = proxy
        self._stack = AsyncExitStack()
        self._program: Program | None = None

    @property
    def program(self) -> Program:
        """Its process."""
        assert self._program is not None
        return self._program

    @property
    def proxy(self) -> RedisProxy:
        """Its way to Redis."""
        assert self._proxy is not None
        return self._proxy

    async def start(self) -> None:
        """Start it, and wait until it answers."""
        self._program = await self._stack.enter_async_context(running("-m", self._runs, json.dumps(self._given)))
        await self._program.wait_for(r"listening on http://127\.0\.0\.1:(\d+)/stream/")
        self.node = (await self.ask("/state"))["node"]
        self.is_up = True

    async def begin(self) -> None:
        """Let it send, from now on."""
        await self.ask("/begin")

    async def end(self, number: int = signal.SIGTERM) -> Died:
        """End it by a signal; return when it was over."""
        self.is_up = False
        at = time.monotonic()
        await self.program.stop(number)
        await self._stack.aclose()
        return Died(at if number == signal.SIGKILL else time.monotonic(), self.node)

    async def ask(self, path: str) -> Any:
        """Return what a page of it tells."""
        response = await fetch(self.port, "GET", path)
        assert response.status == 200, response
        return response.json()


class Scene:
    """Everything, and what was written down of it."""

    def __init__(self, store: Store, servers: list[Server], nginx: Nginx, log: Path, notes: Path, seed: int) -> None:
        self.store = store
        self.servers = servers
        self.nginx = nginx
        self.choices = random.Random(seed)
        #: Clients behind the balancer, and those of one name.
        self.clients: list[Returning] = []
        self.tasks: list[asyncio.Task[None]] = []
        #: Servers that no fault has to do with now.
        self.untouched = [*servers]
        self._log = log
        self._notes = notes
        self._records: list[AnyRecord] = []
        self._began = time.monotonic()
        #: What was done to it: when, what, and whether servers may not reach each other then.
        self._said: list[tuple[float, str, bool]] = []

    @property
    def redis(self) -> RedisProcess:
        """The one Redis that there is."""
        [process] = self.store.processes
        return process

    def write(self, record: AnyRecord) -> None:
        """Write down what happens in this process."""
        self._records.append(record)

    def say(self, text: str, *, shakes: bool = False) -> None:
        """Note what is done, for whoever has to find out what went wrong."""
        self._said.append((time.monotonic(), text, shakes))

    def _noted(self) -> list[tuple[float, str, bool]]:
        """Return what was noted here and by the servers, in its order."""
        lines = self._notes.read_text().splitlines() if self._notes.exists() else []
        return sorted([*self._said, *(tuple(json.loads(line)) for line in lines)])

    def story(self) -> str:
        """Return what was done, and what the servers noted meanwhile; from the first record on, as findings count."""
        began = min((record.at for record in self.records()), default=self._began)
        return "\n".join(f"{at - began:6.2f} s: {text}" for at, text, _ in self._noted())

    def shaken_at(self) -> float:
        """Return when a process was last late, or a server lost its link to the others or got it back."""
        return max((at for at, _, shakes in self._noted() if shakes), default=self._began)

    async def say_what_all_see(self) -> None:
        """Note how busy the machine is, how each server sees the others, and who listens at Redis."""
        self.say(f"load average {os.getloadavg()}")
        for server in self.servers:
            if server.is_up:
                try:
                    async with asyncio.timeout(ANSWERS_WITHIN):
                        self.say(_lines(await server.ask("/view")))
                except (AssertionError, OSError, EOFError, TimeoutError) as error:
                    self.say(f"{server.node} does not tell what it sees: {error!r}")
        for command in (("CLIENT", "LIST", "TYPE", "pubsub"), ("PUBSUB", "CHANNELS")):
            self.say("\n".join([f"{' '.join(command)}:", *await in_thread(self.store.command, *command)]))

    @property
    def began(self) -> float:
        """When the first record may have been written."""
        return self._began

    @asynccontextmanager
    async def trouble(self, server: Server | None = None) -> AsyncIterator[None]:
        """Write down that one server, or all, cannot do what they promise for the time of the block."""
        begin, node = time.monotonic(), server.node if server is not None else ""
        try:
            yield
        finally:
            self.write(Trouble(begin, time.monotonic(), node))

    # Clients

    def add(self, client: Returning) -> Returning:
        """Let a client begin."""
        self.clients.append(client)
        self.tasks.append(asyncio.create_task(client.run()))
        return client

    def populate(self, names: Sequence[tuple[str, str]]) -> None:
        """Let clients of all kinds connect through the balancer."""
        for number, name in enumerate(names):
            kind = KINDS[number % len(KINDS)]
            self.add(Returning(kind, lambda: self.nginx.port, name, self.write, random.Random(self.choices.random())))

    async def begin(self) -> None:
        """Let all servers send, once their clients have come and none is about to change its transport."""
        async with asyncio.timeout(READY_WITHIN):
            while any(client.is_about_to_move for client in self.clients):
                await asyncio.sleep(0.05)
        for server in self.servers:
            await server.begin()

    async def watch(self) -> None:
        """Write down when this process was late: what passes through it was so as well."""
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.05)
            if time.monotonic() - before > LATE:
                self.write(Trouble(before, time.monotonic()))
                self.say(f"this process was late by {time.monotonic() - before:.1f} s", shakes=True)

    # What there is

    def records(self) -> list[AnyRecord]:
        """Return all that was written down, here and elsewhere."""
        lines = self._log.read_bytes().splitlines() if self._log.exists() else []
        return [*self._records, *decode_records(lines)]

    def findings(self) -> list[str]:
        """Return the promises that were broken."""
        return findings(self.records(), LIMITS)

    async def look(self) -> list[AnyRecord]:
        """Return what the servers have, and what the registry says."""
        holds = [await self._holds(server) for server in self.servers]
        return [*holds, await in_thread(self._stored)]

    async def _holds(self, server: Server) -> AnyRecord:
        response = await fetch(server.port, "GET", "/holds")
        [record] = decode_records([response.body])
        return record

    def _stored(self) -> Stored:
        entries: list[tuple[Place, str]] = []
        prefix = f"{NAMESPACE}:account:{{"
        for redis in self.store.primaries:
            for key in sorted(redis.command("KEYS", f"{prefix}*").split()):
                flat = redis.command("HGETALL", key).splitlines()
                for session, entry in zip(flat[::2], flat[1::2], strict=True):
                    node, _, sid = entry.split(" ")
                    entries.append((Place(unquote(key[len(prefix) : -1]), unquote(session), node), sid))
        return Stored(time.monotonic(), tuple(entries))

    async def until_alike(self, names: set[tuple[str, str]], seconds: float) -> None:
        """Wait until these sessions are there and registry, servers and clients agree; write down what there is."""
        deadline = time.monotonic() + seconds
        while True:
            seen = await self.look()
            there = {(account, id) for each in seen if isinstance(each, Holds) for account, id, _ in each.sessions}
            # In a thread: what the servers say to each other passes through this one.
            is_alike = there == names and not await in_thread(self._differ, seen)
            if is_alike or time.monotonic() > deadline:
                break
            await asyncio.sleep(0.3)
        for record in seen:
            self.write(record)
        assert there == names, f"missing {names - there}, too many {there - names}"

    def _differ(self, seen: list[AnyRecord]) -> bool:
        """Tell whether what was seen last is unlike something else, at this moment."""
        other = [each for each in self.records() if not isinstance(each, Holds | Stored)]
        return any(find_unlike_reality(Story([*other, *seen], LIMITS)))

    async def until_ready(self, seconds: float) -> None:
        """Wait until all servers are ready and know each other."""
        unready: dict[str, Any] = {}
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while unready := {server.node: why for server in self.servers if (why := await self._unready(server))}:
                    await asyncio.sleep(0.1)
                return
        raise AssertionError(f"not ready after {seconds} s: {unready}")

    async def _unready(self, server: Server) -> list[str]:
        state = await server.ask("/state")
        unknown = {other.node for other in self.servers} - {server.node, *state["others"]}
        return [*state["unready"], *(f"does not know {node}" for node in sorted(unknown))]


def _lines(view: dict[str, Any]) -> str:
    """Return what a server sees, a line for each thing and each other server."""
    things = {**view, **view["others"]}
    del things["others"]
    return "what a server sees\n" + "\n".join(f"    {name}: {json.dumps(value)}" for name, value in things.items())


def lasting_port() -> int:
    """Return a port that nobody has, and that no connection of others gets while its server is away."""
    while True:
        port = random.randrange(20_000, 32_000)  # below those that systems give to connections
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


@asynccontextmanager
async def scene(
    folder: Path, names: Sequence[tuple[str, str]], seed: int, plants: Sequence[str]
) -> AsyncIterator[Scene]:
    """Run three servers behind nginx; ``plants`` are promises that they are to break."""
    files = files_in(folder, seed)
    async with AsyncExitStack() as stack:
        store = stack.enter_context(STORES["redis"]())
        servers = []
        for number in range(3):
            proxy = await stack.enter_async_context(RedisProxy(store.processes[0].port))
            given = {
                **given_to(files, seed * 10 + number),
                "redis": proxy.url,
                "names": names,
                "plants": plants,
                "slowness": max(1.0, len(names) / 20),
            }
            servers.append(Server(lasting_port(), given, proxy=proxy))
        nginx = await stack.enter_async_context(nginx_before([server.port for server in servers]))
        made = Scene(store, servers, nginx, *files, seed)
        await stack.enter_async_context(playing(made))
        yield made


def files_in(folder: Path, seed: int) -> tuple[Path, Path]:
    """Return where servers write down what happens, and what they note; there is nothing in it yet."""
    files = folder / f"records-{seed}.jsonl", folder / f"notes-{seed}.jsonl"
    for file in files:
        file.unlink(missing_ok=True)
    return files


def given_to(files: tuple[Path, Path], seed: int) -> dict[str, Any]:
    """Return what every server has to know."""
    log, notes = map(str, files)
    options = {"namespace": NAMESPACE, "ping_interval": PING, "ping_timeout": PING}
    return {"options": options, "log": log, "notes": notes, "seed": seed}


@asynccontextmanager
async def playing(scene: Scene) -> AsyncIterator[None]:
    """Let all servers run for the time of the block."""
    try:
        await asyncio.gather(*(server.start() for server in scene.servers))
        await scene.until_ready(READY_WITHIN)
        scene.tasks.append(asyncio.create_task(scene.watch()))
        yield
    finally:
        await _end(scene)


async def _end(scene: Scene) -> None:
    """End what may still be there."""
    for task in scene.tasks:
        task.cancel()
    await asyncio.gather(*scene.tasks, return_exceptions=True)
    for server in scene.servers:
        if server.is_up:
            server.program.send_signal(signal.SIGCONT)
            scene.write(await server.end())


@asynccontextmanager
async def official_clients(scene: Scene, names: Sequence[tuple[str, str]]) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run official clients for the time of the block; see ``returning.mjs``."""
    given = json.dumps([{"account": account, "session": session} for account, session in names])
    process = await asyncio.create_subprocess_exec(
        *("node", FOLDER / "returning.mjs", str(scene.nginx.port), str(scene._log), given),
        stdin=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
