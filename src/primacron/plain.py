"""Runs the compiled modules as plain Python even where they are compiled; must be imported before them."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Final

#: Environment variable; if set to 1, the process uses no compiled module.
SWITCH: Final = "PRIMACRON_PLAIN"


class SourceFinder:
    """
    Finds the sources of the compiled modules.

    These are the modules with a ``.pxd`` file. It is all or none: a compiled module
    cannot use the types of one that is not.
    """

    @staticmethod
    def find_spec(
        name: str,
        path: Sequence[str] | None,  # noqa: ARG004
        target: ModuleType | None = None,  # noqa: ARG004
    ) -> ModuleSpec | None:
        """Return the spec of the source, None for any other module; see :class:`importlib.abc.MetaPathFinder`."""
        package, _, rest = name.partition(".")
        if package != __package__ or not rest:
            return None
        source = Path(__file__).parent.joinpath(*rest.split(".")).with_suffix(".py")
        return spec_from_file_location(name, source) if source.with_suffix(".pxd").exists() else None


if os.environ.get(SWITCH) == "1":
    sys.meta_path.insert(0, SourceFinder)
