"""The page of all reasons for which a connection ends."""

from __future__ import annotations

from docs.generate.markdown import code, table
from primacron.protocol.closing import REASONS

_INTRO = """# Close reasons

Why a connection ended: the second argument of `disconnection`, and of `session.disconnect(reason)` your own words. A
websocket client gets text and code in the close frame; a polling client gets the packet `1`. *Final* means that the
client should not come back by itself.

"""


def page() -> str:
    """Return the page."""
    rows = [
        (code(reason.text), str(reason.code), reason.meaning, "yes" if reason.is_final else "") for reason in REASONS
    ]
    return _INTRO + table(("reason", "code", "meaning", "final"), rows)
