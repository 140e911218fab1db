"""
JSON with texts that cannot be written again: half of a surrogate pair stands for no character.

JavaScript makes such texts easily, by cutting a text between the two halves of an
emoji. They are valid JSON (RFC 8259, 8.2), and msgspec calls them malformed.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final, NoReturn

from primacron.errors import InvalidMessage, MessageError, UndecodableMessage

_HALF: Final = re.compile(r"\\u[dD][89a-fA-F]")


def judge_undecodable(text: str, error: Exception) -> tuple[MessageError, Any]:
    """Return what is wrong with JSON that msgspec refuses, and its value if it is JSON nevertheless."""
    # Not after a RecursionError: what is nested too deeply is no longer looked at.
    if not isinstance(error, RecursionError) and _HALF.search(text) is not None:
        try:
            value = json.loads(text, parse_constant=_refuse)
        except (ValueError, RecursionError):
            pass
        else:
            return InvalidMessage("a text with half of a surrogate pair, which stands for no character"), value
    return UndecodableMessage(str(error)), None


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"JSON has no {name}")
