"""Channels as a target: the sessions that are in at least one of them."""

from __future__ import annotations

from primacron.content import AnyContent, Event, InChannel
from primacron.features.channels.feature import Channels
from primacron.receipts import Delivery, Reach
from primacron.routing.router import Router
from primacron.routing.targets import ChannelsTarget, Except


class ChannelTarget(ChannelsTarget):
    """The members of one or more channels, each once."""

    def __init__(self, router: Router, channels: Channels, names: tuple[str, ...]) -> None:
        super().__init__(router, names)
        self._channels = channels

    def send(
        self,
        content: AnyContent,
        *,
        except_: Except = None,
        volatile: bool = False,
        receipt: bool = False,
        key: str | None = None,
    ) -> Delivery[Reach]:
        """Send content to all of them; clients are told the channel if it is one that they may join."""
        if isinstance(content, Event) and len(self.names) == 1 and self._channels.kind_of(self.names[0]) is not None:
            content = InChannel(content.name, content.args, self.names[0])
        return super().send(content, except_=except_, volatile=volatile, receipt=receipt, key=key)
