"""Under pairs of faults on three servers behind nginx no promise is broken, and afterwards all is as before."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Final

import pytest

from tests.promises.faults import CONTESTED, choose_pair, strike
from tests.promises.scene import LIMITS, READY_WITHIN, Scene, Server, official_clients, scene
from tests.support.forms import LENGTH, Length

#: Set to the seed of a run that has failed, this variable of the environment repeats its faults.
SEED: Final = "PROMISES_SEED"
#: Runs, of which each has another seed.
RUNS: Final = LENGTH.choose(1, 3, 20)
#: Seconds until all gets through again after anything went wrong, and after which nobody waits for that any more.
KNOWN_WITHIN: Final = 12.0
GIVEN_UP_AFTER: Final = 60.0
#: Seconds until entries that were left behind are removed.
ALIKE_WITHIN: Final = 80.0
OFFICIAL: Final = 3


def seed_of(run: int, length: Length) -> int:
    """Return the seed of a run: always the same in the short form, another one each time in the long one."""
    given = os.environ.get(SEED)
    if given is not None:
        return int(given)
    return int.from_bytes(os.urandom(4)) if length.is_long else run


@pytest.mark.parametrize("run", range(RUNS))
async def test_pairs_of_faults_break_no_promise(
    run: int, length: Length, tmp_path: Path, anyio_backend: object
) -> None:
    seed = seed_of(run, length)
    names = [(f"account-{number % 6}", f"session-{number}") for number in range(length.choose(18, 60))]
    found: list[str] = []
    async with scene(tmp_path, names, seed, []) as made:
        try:
            await play(made, names, length)
        except Exception as error:
            found.append(repr(error))
            await made.say_what_all_see()
    found += made.findings()
    assert not found, f"{SEED}={seed}\n{made.story()}\n" + "\n".join(found)


async def play(made: Scene, names: list[tuple[str, str]], length: Length) -> None:
    """Let faults happen, two by two; then look whether all is as it should be."""
    by_others, official = names[:-OFFICIAL], names[-OFFICIAL:]
    made.populate(by_others)
    async with official_clients(made, official) as process:
        await made.until_alike({*names}, READY_WITHIN)
        await made.begin()
        until = time.monotonic() + length.choose(6.0, 60.0)
        while time.monotonic() < until:
            await strike(made, *choose_pair(made.choices))
            await asyncio.sleep(made.choices.uniform(0.0, 3.0))
        made.say("no more faults")
        for client in made.clients:
            client.settle()
        assert process.stdin is not None
        process.stdin.write(b"settle\n")
        await made.until_ready(READY_WITHIN)
        await until_all_as_before(made, names)
        made.say("all go away")
        for client in made.clients:
            client.leave()
        process.stdin.write(b"leave\n")
        await made.until_alike(set(), LIMITS.linger + ALIKE_WITHIN)


async def until_all_as_before(made: Scene, names: list[tuple[str, str]]) -> None:
    """Wait until everybody is there, and everything that is sent gets through."""
    there = {*names}
    if any(client.name == CONTESTED and client.sid for client in made.clients):
        there.add(CONTESTED)
    await made.until_alike(there, ALIKE_WITHIN)
    made.say("all are there")
    for server in made.servers:
        await until_all_gets_through(made, server, len(there))


async def until_all_gets_through(made: Scene, server: Server, count: int) -> None:
    """
    Wait until a server reaches everybody; what it does not know for certain yet it does not send.

    On a busy machine servers lose their links without any fault: then they have some time again.
    """
    began = time.monotonic()
    while wrong := await server.ask(f"/probe?count={count}"):
        made.say(f"{server.node} could not send, {len(wrong)} times: {wrong[0]}, ... {wrong[-1]}")
        now = time.monotonic()
        is_patient = now < max(began, made.shaken_at()) + KNOWN_WITHIN and now < began + GIVEN_UP_AFTER
        assert is_patient, f"server {server.node} could not send: {wrong}"
        await asyncio.sleep(0.2)
