"""The page of all counters."""

from __future__ import annotations

from docs.generate.markdown import code, table
from primacron.metrics import METRICS

_INTRO = """# Metrics

What every server counts, whether anybody listens or not: `server.metrics["sessions_opened"]`. Counters begin with the
server and are never set back. [How to publish them](../topics/events.md#counters).

"""


def page() -> str:
    """Return the page."""
    return _INTRO + table(("counter", "what it counts"), [(code(metric.name), metric.help) for metric in METRICS])
