"""Which backend a server uses, by what was given to its constructor."""

from __future__ import annotations

from collections.abc import Callable

from primacron.cluster.base import Backend
from primacron.cluster.memory import Shared
from primacron.config import Options
from primacron.errors import OptionError


def choose_backend(given: object, options: Options) -> Callable[[], Backend] | None:
    """
    Return what opens the backend, inside the event loop; None for a server that is alone.

    Raises:
        OptionError: if what was given is no backend.

    """
    if given is None:
        return None
    if isinstance(given, Shared):
        return lambda: given.backend(keep=options.timeout)
    raise OptionError("redis", "None", given)
