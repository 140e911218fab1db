"""Loads the Lua scripts in the folder ``scripts``."""

from __future__ import annotations

import hashlib
from importlib.resources import files
from typing import Final

from primacron.cluster.redis.client import Script


def load_script(name: str, *, writes: bool = True, time_at: int | None = None) -> Script:
    """Load a :class:`Script`; one that writes is prefixed with the deadline check."""
    folder = files("primacron.cluster.redis").joinpath("scripts")
    parts = ["deadline.lua", f"{name}.lua"] if writes else [f"{name}.lua"]
    text = "".join(folder.joinpath(part).read_text("utf-8") for part in parts)
    return Script(name, text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest(), writes, time_at)


#: Runs a single write command.
WRITE: Final = load_script("write")
