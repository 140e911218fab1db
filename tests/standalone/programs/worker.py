"""A program whose workers do as they are told: the first argument is the settings, the second a folder to count in."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from primacron.standalone import workers


def take_number(folder: Path) -> int:
    """Return how many workers were started before this one."""
    number = 0
    while True:
        try:
            (folder / str(number)).touch(exist_ok=False)
        except FileExistsError:
            number += 1
        else:
            return number


async def live(worker: workers.Worker, mood: str) -> None:
    """Begin, and end when told to."""
    ended = asyncio.Event()
    worker.begun(ended.set, "an address", "a worker")
    if mood == "dies":
        os._exit(3)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    await ended.wait()


def work(worker: workers.Worker, mood: str) -> None:
    """Do as it is told."""
    if mood == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if mood in {"hangs", "stubborn"}:
        time.sleep(600)
    asyncio.run(live(worker, mood))


def main() -> int:
    """Supervise, or be a worker."""
    settings: dict[str, Any] = json.loads(sys.argv[1])
    worker = workers.Worker.of_environment()
    if worker is not None:
        moods = settings["moods"]
        number = take_number(Path(sys.argv[2]))
        work(worker, moods[min(number, len(moods) - 1)])
        return 0

    async def supervise() -> int:
        def say(line: str) -> None:
            print(line, flush=True)
            # The first ones have all the time that a busy machine may need.
            workers.BEGIN_TIMEOUT = settings.get("begin_timeout", workers.BEGIN_TIMEOUT)  # type: ignore[misc]

        return await workers.Supervisor(0, "127.0.0.1", settings["count"], "secret", say).run()

    return asyncio.run(supervise())


if __name__ == "__main__":
    sys.exit(main())
