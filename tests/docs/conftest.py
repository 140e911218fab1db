"""Claims fail with the values that were compared, as tests do."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("tests.docs.claims", "tests.docs.topics")
