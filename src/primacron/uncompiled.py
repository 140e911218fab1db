"""Stands for the module ``cython`` where it is not installed: nothing here is compiled."""

from __future__ import annotations

compiled = False
