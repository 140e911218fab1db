"""Time limits and intervals that are not options."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Times:
    """The limits and intervals of one server, in seconds; tests shorten them."""

    #: Event loop lag from which the server is not ready.
    lag: float = 1.0
    #: Shutdown time after which whatever still runs is cancelled; together with ``cancel`` it makes 5.
    finish: float = 4.0
    #: Time that cancelled tasks get to finish.
    cancel: float = 1.0
    #: How long a node without sessions stays subscribed to what is sent to all nodes.
    attend: float = 60.0
    #: How long further refused commands on the same key are not reported.
    tell_again: float = 60.0
    #: Interval between checks for nodes whose entries are to be swept.
    sweep: float = 10.0
    #: Time from the expiry of a lease until its node's entries are swept.
    swept: float = 60.0
    #: Time after which a forwarded request without an answer is repeated.
    forward_again: float = 2.0
    #: How long the answer to a forwarded request is kept for a node that did not receive it.
    keep_answer: float = 30.0
    #: How long a session that moved here remembers which sends to many it has already received.
    remember: float = 10.0
