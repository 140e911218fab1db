"""Claims fail with the values that were compared, as tests do."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite(
    *(f"tests.docs.{name}" for name in ("channels", "claims", "howto", "servers", "topics", "tutorial"))
)
