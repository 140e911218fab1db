"""
The close reasons, all of them.

The application receives the text; a websocket client gets text and code in the
close frame, a polling client the packet ``1``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class CloseReason:
    """
    One reason: its text, the websocket close code, and its consequences.

    Of our own codes, 4000 to 4499 ask the client to reconnect automatically, and
    4500 to 4999 ask it not to.
    """

    text: str
    code: int
    meaning: str = ""
    #: The client may reconnect automatically; if not, dialects that can say so do.
    reconnect: bool = True
    #: On polling, the last packets are kept for the next poll. False if no poll is expected any more.
    lingers: bool = True
    #: On polling, the client is sent the packet ``1``. False if the client initiated the close.
    says_goodbye: bool = True
    #: Queued packets are sent first. False if there were too many.
    sends_rest: bool = True

    @property
    def short(self) -> str:
        """The text, truncated to the 123 bytes that fit into a close frame."""
        return self.text.encode("utf-8", "replace")[:123].decode("utf-8", "ignore")

    def __str__(self) -> str:
        return self.text


CLIENT_CLOSE: Final = CloseReason("client close", 1000, "the client said goodbye", lingers=False, says_goodbye=False)
TRANSPORT_CLOSE: Final = CloseReason(
    "transport close", 1000, "the client's connection went away, or it gave up its poll", lingers=False
)
# A polling client learns of these two from the response to the offending request.
TRANSPORT_ERROR: Final = CloseReason(
    "transport error", 1002, "the client broke the rules of HTTP, websocket or of the transport", lingers=False
)
PARSE_ERROR: Final = CloseReason("parse error", 1002, "a packet or payload that is none", lingers=False)
TOO_LARGE: Final = CloseReason("message too large", 1009, "a websocket message over `max_payload`")
TOO_MUCH: Final = CloseReason(
    "too much unfinished input", 1013, "`input_total` was reached, and no other client held as much of a message"
)
NOT_TEXT: Final = CloseReason("invalid text", 1007, "a websocket text that is not UTF-8")
PING_TIMEOUT: Final = CloseReason("ping timeout", 1001, "no answer to a heartbeat", lingers=False)
FORCED_CLOSE: Final = CloseReason("forced close", 1000, "the application disconnected the session", reconnect=False)
REPLACED: Final = CloseReason("replaced", 4500, "another connection took over the session id", reconnect=False)
BAD_MESSAGES: Final = CloseReason("bad messages", 1008, "too many refused messages in a row")
SLOW: Final = CloseReason("slow", 1013, "the client fell too far behind", sends_rest=False)
INTERNAL: Final = CloseReason("internal error", 1011, "a mistake of the server")
SHUTDOWN: Final = CloseReason("server shutdown", 1012, "the server ends")

REASONS: Final = (
    CLIENT_CLOSE,
    TRANSPORT_CLOSE,
    TRANSPORT_ERROR,
    PARSE_ERROR,
    TOO_LARGE,
    TOO_MUCH,
    NOT_TEXT,
    PING_TIMEOUT,
    FORCED_CLOSE,
    REPLACED,
    BAD_MESSAGES,
    SLOW,
    INTERNAL,
    SHUTDOWN,
)


def forced(text: str) -> CloseReason:
    """Return the reason for a close by the application, in its own words."""
    return FORCED_CLOSE if text == FORCED_CLOSE.text else CloseReason(text, FORCED_CLOSE.code, reconnect=False)


def known(text: str, code: int) -> CloseReason:
    """Return the reason named by another node, with all its consequences."""
    found = next((each for each in REASONS if (each.text, each.code) == (text, code)), None)
    return CloseReason(text, code, reconnect=code != FORCED_CLOSE.code) if found is None else found
