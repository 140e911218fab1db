"""The core of the demo's client, without a browser: it counts as the tests' own client does, whatever drops."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings

from tests.resume.core import Delivered, Heard, Message, Opened, State
from tests.resume.world import STORIES, World
from tests.support.node import FOLDER


class PageCore:
    """The page's core in Node.js; see :class:`tests.resume.core.Core`."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._ask("new")

    @property
    def connection(self) -> int:
        return int(self._ask("connection"))

    @property
    def state(self) -> State:
        return State[self._ask("state").upper()]

    @property
    def unconfirmed(self) -> list[Message]:
        return list(self._ask("unconfirmed"))

    def begin(self, now: float) -> Message:
        return dict(self._ask("begin", now))

    def receive(self, connection: int, message: Message, now: float) -> Heard | None:
        heard = self._ask("receive", connection, message, now)
        if heard is None:
            return None
        if "message" in heard:
            return Delivered(heard["message"])
        return Opened(heard["opened"]["recovered"], heard["opened"]["lost"], "s", {})

    def send(self, message: Message) -> None:
        self._ask("send", message)

    def to_write(self, now: float) -> list[Message]:
        return list(self._ask("write", now))

    def probe(self) -> Message:
        return {"taken": self._ask("received")}

    def _ask(self, method: str, *args: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([method, *args]) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


@pytest.fixture(scope="module")
def node() -> Iterator[subprocess.Popen[str]]:
    """A process that plays the page's core."""
    pipe = subprocess.PIPE
    with subprocess.Popen(["node", FOLDER / "resume.mjs"], stdin=pipe, stdout=pipe, text=True) as process:
        yield process
        process.kill()


@settings(max_examples=200)
@given(STORIES)
def test_whatever_drops_all_arrives_once_and_in_order_or_is_told(
    node: subprocess.Popen[str], steps: list[tuple[str, int]]
) -> None:
    World(PageCore(node)).play_all(steps)
