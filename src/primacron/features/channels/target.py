"""Channels as a target: the sessions that are in at least one of them."""

from __future__ import annotations

from primacron.features.channels.feature import Channels
from primacron.routing.router import Router
from primacron.routing.targets import ChannelsTarget


class ChannelTarget(ChannelsTarget):
    """The members of one or more channels, each once."""

    def __init__(self, router: Router, channels: Channels, names: tuple[str, ...]) -> None:
        super().__init__(router, names)
        self._channels = channels
