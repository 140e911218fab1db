"""
JSON strings with lone surrogates, which stand for no character and cannot be encoded again.

In JavaScript they arise whenever a string is cut in the middle of an emoji. They are
valid JSON (RFC 8259, 8.2), but msgspec rejects them as malformed.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final, NoReturn

from primacron.errors import InvalidMessage, MessageError, UndecodableMessage

_HALF: Final = re.compile(r"\\u[dD][89a-fA-F]")


def judge_undecodable(text: str, error: Exception) -> tuple[MessageError, Any]:
    """Return the error for JSON that msgspec rejects, and its value if it is valid JSON after all."""
    # Not after a RecursionError: JSON that is nested too deeply is not parsed again.
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
