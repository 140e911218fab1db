"""Channels on three servers behind nginx hold what they promise, whatever happens to Redis and the servers."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from primacron.testing.promises.sends import TRANSIT
from tests.promises.channel_faults import FAULTS, Fault, choose_pair
from tests.promises.channel_scene import ChannelScene, channel_scene
from tests.promises.scene import READY_WITHIN
from tests.support.forms import LENGTH, Length

#: Set to the seed of a run that has failed, this variable of the environment repeats its faults.
SEED: Final = "CHANNELS_SEED"
#: Seconds after a fault until all see who is in a channel, and some for a machine that does more than this.
AGREED_WITHIN: Final = 5.0 + 3.0
#: Seconds until all clients are in their channels.
ALL_IN_WITHIN: Final = 20.0


async def play(made: ChannelScene, length: Length, scenes: Sequence[Sequence[Fault]]) -> None:
    """Let faults happen while servers send to channels; then look whether everybody has everything, and sees all."""
    made.bring(length.choose(60, 300))
    await made.until_all_in(ALL_IN_WITHIN)
    await made.begin()
    seconds = length.choose(1.0, 20.0, 120.0)
    for faults in scenes:
        until = time.monotonic() + seconds
        while True:
            async with asyncio.TaskGroup() as group:
                for fault in faults:
                    group.create_task(_happen(made, fault, seconds))
            made.say("no more faults")
            await made.until_ready(READY_WITHIN)
            await made.until_all_in(ALL_IN_WITHIN)
            if time.monotonic() > until:
                break
    for client in made.clients:
        client.settle()
    await made.until_all_in(ALL_IN_WITHIN)
    await made.all_servers("/rest")
    await made.until_all_see_all(AGREED_WITHIN)
    await asyncio.sleep(TRANSIT)  # what was sent last is due then


async def _happen(made: ChannelScene, fault: Fault, seconds: float) -> None:
    choices = random.Random(made.choices.random())
    await asyncio.sleep(choices.uniform(0.0, 0.5))
    async with fault(made, choices, seconds):
        await asyncio.sleep(choices.uniform(0.5, 1.0) * min(seconds, 12.0))


def seed_of(run: int, length: Length) -> int:
    """Return the seed of a run: always the same in the short form, another one each time in the long one."""
    given = os.environ.get(SEED)
    if given is not None:
        return int(given)
    return int.from_bytes(os.urandom(4)) if length.is_long else run


async def judge(folder: Path, place: str, seed: int, length: Length, scenes: Sequence[Sequence[Fault]]) -> None:
    """Play, and fail with all that was found."""
    found: list[str] = []
    async with channel_scene(folder, place, seed) as made:
        try:
            await play(made, length, scenes)
        except Exception as error:
            found.append(repr(error))
            await made.say_what_all_see()
        found += made.findings()
    what = "; ".join(", ".join(fault.__name__ for fault in faults) for faults in scenes)
    assert not found, f"{SEED}={seed} {what}\n{made.story()}\n{len(found)} findings\n" + "\n".join(found[:100])


def _pair(place: str, run: int) -> tuple[int, list[Sequence[Fault]]]:
    seed = seed_of(run, LENGTH)
    return seed, [choose_pair(place, random.Random(seed))]


#: In the short form all faults of a place happen one after the other; in the long one each alone, then pairs of them.
SCENES: Final[list[Any]] = [
    *(
        pytest.param(place, seed_of(0, LENGTH), scenes, id="-".join([place, *(fault.__name__ for [fault] in scenes)]))
        for place, faults in FAULTS.items()
        for scenes in LENGTH.choose([[(fault,) for fault in faults]], [[(fault,)] for fault in faults])
    ),
    *(
        pytest.param(place, *_pair(place, run), id=f"{place}-pair-{run}")
        for place in FAULTS
        for run in range(LENGTH.choose(0, 1, 10))
    ),
]


@pytest.mark.parametrize(("place", "seed", "scenes"), SCENES)
async def test_channels_hold_under_faults(
    place: str, seed: int, scenes: Sequence[Sequence[Fault]], length: Length, tmp_path: Path, anyio_backend: object
) -> None:
    await judge(tmp_path, place, seed, length, scenes)
