"""Channels as a target: the sessions that are in at least one of them."""

from __future__ import annotations

from typing import Any, Final

from primacron.channels.kinds import Kind
from primacron.content import AnyContent, Event, InChannel
from primacron.features.channels.feature import Channels
from primacron.features.channels.items import Item
from primacron.features.channels.members import Members
from primacron.features.channels.pages import HistoryPage
from primacron.natives import as_name
from primacron.positions import Position
from primacron.receipts import Delivery, Reach
from primacron.routing.options import SendOptions
from primacron.routing.router import Router
from primacron.routing.targets import ChannelsTarget, Except, read_options

#: Sessions that a message of a channel with history may leave out: they are stored with it.
MAX_LEFT_OUT: Final = 16


class ChannelTarget(ChannelsTarget):
    """The members of one or more channels, each once."""

    def __init__(self, router: Router, channels: Channels, names: tuple[str, ...]) -> None:
        super().__init__(router, names)
        self._channels = channels

    def emit(
        self,
        event: str,
        *args: Any,
        except_: Except = None,
        volatile: bool = False,
        receipt: bool = False,
        key: str | None = None,
        history: bool = True,
    ) -> Delivery[Reach]:
        """
        Send an event; see :meth:`Target.emit` for the other parameters and errors.

        In a channel with history it is stored, and each member gets it in the order of the
        history, now or on its return. ``history`` False sends it to those alone who are there.
        ``except_`` names at most 16 sessions there, and ``key`` tells a second message from a
        repetition on all servers, and has the position of the first one told.

        Raises:
            ValueError: with history if there are several channels, more than 16 sessions or a
                channel in ``except_``, or it is ``volatile``.

        """
        self._router.hub.demand_thread("emit")
        content = Event(as_name(event, "event"), args)
        return self.send(content, except_=except_, volatile=volatile, receipt=receipt, key=key, history=history)

    def send(
        self,
        content: AnyContent,
        *,
        except_: Except = None,
        volatile: bool = False,
        receipt: bool = False,
        key: str | None = None,
        history: bool = True,
    ) -> Delivery[Reach]:
        """Send content to all of them; clients are told the channel if it is one that they may join."""
        kinds = [self._channels.kind_of(name) for name in self.names]
        if history and any(kind is not None and kind.history for kind in kinds):
            options = read_options(except_, volatile=volatile, key=key)
            return self._append(self._with_history(), content, options, receipt=receipt)
        if isinstance(content, Event) and len(kinds) == 1 and kinds[0] is not None:
            content = InChannel(content.name, content.args, self.names[0])
        return super().send(content, except_=except_, volatile=volatile, receipt=receipt, key=key)

    def _append(self, kind: Kind, content: AnyContent, options: SendOptions, *, receipt: bool) -> Delivery[Reach]:
        if options.volatile:
            raise ValueError("volatile: a message of a channel with history is stored; or pass history=False")
        if options.left_out_channels or len(options.left_out) > MAX_LEFT_OUT:
            raise ValueError(f"except_: in a channel with history at most {MAX_LEFT_OUT} sessions, and no channels")
        item = Item.of(content, options.left_out)
        return self._channels.histories.append(self.names[0], kind, item, options.key, receipt=receipt)

    def _with_history(self) -> Kind:
        """Return the kind of the channel if it is one, and has a history."""
        kind = self._channels.kind_of(self.names[0])
        if len(self.names) > 1:
            raise ValueError(f"one of the channels {self.names} has a history: name one at a time")
        if kind is None or not kind.history:
            raise ValueError(f"channel {self.names[0]!r} has no history")
        return kind

    async def members(self) -> Members:
        """
        Return who is in the channel, on all servers.

        Raises:
            ValueError: if it is not one channel, or that has no presence.

        """
        kind = self._channels.kind_of(self.names[0])
        if len(self.names) > 1:
            raise ValueError(f"members of one channel at a time, not of {self.names}")
        if kind is None or not kind.presence:
            raise ValueError(f"channel {self.names[0]!r} has no presence")
        return await self._channels.presences.members(self.names[0], kind)

    async def history(self, since: Position | None = None, limit: int = 100) -> HistoryPage:
        """
        Return messages that are kept: the oldest above a position, or without one the newest.

        They are fewer than ``limit`` if they have more than 1 MB.

        Raises:
            ValueError: if it is not one channel, or that has no history, or ``limit`` is below 1.
            BackendUnavailable: if they cannot be read now.

        """
        kind = self._with_history()
        if limit < 1:
            raise ValueError(f"limit: expected at least 1, got {limit}")
        return await self._channels.histories.page(self.names[0], kind, since, limit)

    async def clear(self) -> None:
        """
        Forget all messages. Members hear nothing of it; who is behind is told of a gap on its return.

        Raises:
            ValueError: if it is not one channel, or that has no history.
            BackendUnavailable: if it is not known whether that was done.

        """
        self._with_history()
        await self._channels.histories.clear(self.names[0])
