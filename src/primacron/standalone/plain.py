"""The frame codec as plain Python, also where it is compiled."""

from __future__ import annotations

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Final

#: Set to 1, this variable of the environment makes a process use the plain codec.
SWITCH: Final = "PRIMACRON_PLAIN"


def load_plain(name: str) -> ModuleType:
    """Load the codec from its source, under a name of its own or in the place of the compiled one."""
    spec = spec_from_file_location(name, Path(__file__).with_name("frames.py"))
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
