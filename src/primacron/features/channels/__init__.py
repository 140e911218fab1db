"""Channels: named groups of sessions across the cluster."""

from primacron.features.channels.feature import Channels
from primacron.features.channels.target import ChannelTarget

__all__ = ["ChannelTarget", "Channels"]
