"""The native dialect for clients that know of channels: what others get as plain events names its channel."""

from __future__ import annotations

from typing import Any

from primacron.dialects.primacron import JsonDialect, MsgpackDialect
from primacron.protocol.outgoing import MESSAGE, OutgoingPacket


class ChannelJsonDialect(JsonDialect):
    """Envelopes as JSON text, those of channels included."""

    def write_in_channel(
        self, event: str, args: tuple[Any, ...], channel: str, offset: int | None = None
    ) -> OutgoingPacket:
        """Encode an event, with its channel and offset in the envelope."""
        plain = self.write_event(event, args).data
        tail = "}" if offset is None else f',"offset":{offset}}}'
        return OutgoingPacket(MESSAGE, plain[:-1] + b',"channel":' + self._encode(channel) + tail.encode())

    def write_about_channel(self, channel: str, key: str, value: Any) -> OutgoingPacket:
        """Encode an object with the channel and this key."""
        return OutgoingPacket(MESSAGE, self._encoding.json({"channel": channel, key: value}))


class ChannelMsgpackDialect(MsgpackDialect):
    """Envelopes as MessagePack, those of channels included."""

    def write_in_channel(
        self, event: str, args: tuple[Any, ...], channel: str, offset: int | None = None
    ) -> OutgoingPacket:
        """Encode an event, with its channel and offset in the envelope."""
        envelope: dict[str, Any] = {"event": event, "args": args, "channel": channel}
        if offset is not None:
            envelope["offset"] = offset
        return self._packet(envelope)

    def write_about_channel(self, channel: str, key: str, value: Any) -> OutgoingPacket:
        """Encode an object with the channel and this key."""
        return self._packet({"channel": channel, key: value})
