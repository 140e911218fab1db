"""The history of a channel as applications read it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from primacron.channels.stream import last_offset
from primacron.cluster.kept import Page
from primacron.features.channels.items import read_item
from primacron.positions import Position


@dataclass(frozen=True, slots=True)
class ChannelMessage:
    """A message in the history of a channel: its position, the event and its arguments."""

    position: Position
    event: str
    args: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """
    Consecutive messages of a channel, the oldest first.

    ``position`` is where to go on reading, and ``more`` tells whether there is something.
    ``recovered`` is False if some may be missing between the position that was given and
    the first message: they were not kept, or the backend may have lost them.
    """

    messages: tuple[ChannelMessage, ...]
    position: Position
    more: bool
    recovered: bool


def knows(page: Page, since: Position) -> bool:
    """Tell whether a position is of a list as a page shows it."""
    return since.offset <= last_offset(page, since.epoch)


def read_page(page: Page, since: Position | None, unreadable: Callable[[], None]) -> HistoryPage:
    """Return the messages of a page; ``unreadable`` is called for each that is malformed, and left out."""
    messages: list[ChannelMessage] = []
    last = page.top
    for offset, packed in enumerate(page.items, page.first):
        last = Position(page.top.epoch if offset >= page.start else page.before, offset)
        try:
            item = read_item(packed)
        except ValueError:
            unreadable()
        else:
            messages.append(ChannelMessage(last, item.name, item.args))
    is_recovered = since is None or (since.epoch == page.top.epoch and page.first == since.offset + 1)
    return HistoryPage(tuple(messages), last, last.offset < page.top.offset, is_recovered)
