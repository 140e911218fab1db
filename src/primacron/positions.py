"""Positions in the history of a channel."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Position:
    """
    A position in the history of a channel: that of a message, or of who has had it and all before.

    ``offset`` numbers the messages from 1. It is valid within its ``epoch`` alone: another
    one begins when the backend may have lost messages.
    """

    epoch: str
    offset: int
