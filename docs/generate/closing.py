"""The page of all reasons why a connection closes."""

from __future__ import annotations

from docs.generate.markdown import code, table
from primacron.protocol.close_reasons import REASONS

_INTRO = """# Close reasons

Why a connection ended: the second argument of `disconnection`, and of `session.disconnect(reason)` your own words. A
websocket client gets text and code in the close frame; a polling client gets the packet `1`. The last column says
whether the client may come back by itself. Of the codes from 4000 on, which are Primacron's own, those up to 4499 ask
it to, and those from 4500 on ask it not to.

"""


def page() -> str:
    """Return the page."""
    rows = [
        (code(reason.text), str(reason.code), reason.meaning, "yes" if reason.reconnect else "no") for reason in REASONS
    ]
    return _INTRO + table(("reason", "code", "meaning", "comes back"), rows)
