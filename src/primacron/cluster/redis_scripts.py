"""Scripts that run in Redis, read from the folder ``scripts``."""

from __future__ import annotations

import hashlib
from importlib.resources import files
from typing import Final

from primacron.cluster.redis_client import Script


def load_script(name: str, *, writes: bool = True, time_at: int | None = None) -> Script:
    """Read a script; see :class:`Script`. One that writes has a deadline."""
    folder = files("primacron.cluster").joinpath("scripts")
    parts = ["deadline.lua", f"{name}.lua"] if writes else [f"{name}.lua"]
    text = "".join(folder.joinpath(part).read_text("utf-8") for part in parts)
    return Script(name, text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest(), writes, time_at)


#: Runs one command that writes.
WRITE: Final = load_script("write")
