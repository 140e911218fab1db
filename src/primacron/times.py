"""How long things take that no option tells."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds, for one server; tests make them shorter."""

    #: That the event loop may be late before the server is not ready.
    lag: float = 1.0
    #: Until what still runs at the end of a server is cancelled: with what that takes, 5 are over at its end.
    finish: float = 4.0
    #: That cancelled tasks have to end.
    cancel: float = 1.0
    #: For which a node hears what is sent to all after its last session has ended.
    attend: float = 60.0
    #: For which nothing more is told of a key after a command on it was refused.
    tell_again: float = 60.0
    #: Between two looks for nodes whose entries are to be swept.
    sweep: float = 10.0
    #: After the end of a lease until the entries of its node are swept.
    swept: float = 60.0
    #: After which a forwarded request without its answer is asked for again.
    forward_again: float = 2.0
    #: For which the answer to a forwarded request is kept, for a node that has not got it.
    keep_answer: float = 30.0
    #: For which a session that has come from another node remembers what was sent to many.
    remember: float = 10.0
