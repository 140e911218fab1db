"""Runs Node.js programs for tests: the official clients and other servers."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

DEADLINE = 60.0
FOLDER = Path(__file__).parent.parent / "js"


async def run_node(script: str, *args: object) -> list[dict[str, Any]]:
    """
    Run a script of ``tests/js`` to its end and return the JSON objects that it printed, one per line.

    Fails with its standard error if the exit status is not 0.
    """
    process = await asyncio.create_subprocess_exec(
        "node", FOLDER / script, *map(str, args), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(DEADLINE):
            out, err = await process.communicate()
    except TimeoutError:
        process.kill()
        out, err = await process.communicate()
        raise AssertionError(f"{script} did not end in {DEADLINE} s\n{out.decode()}\n{err.decode()}") from None
    finally:
        if process.returncode is None:  # the test has failed meanwhile
            process.kill()
            await process.communicate()
    assert process.returncode == 0, f"{script} ended with {process.returncode}\n{out.decode()}\n{err.decode()}"
    return [json.loads(line) for line in out.splitlines()]
