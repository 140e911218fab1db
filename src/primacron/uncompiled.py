"""Stands in for the module ``cython`` where it is not installed: nothing is compiled."""

from __future__ import annotations

compiled = False
