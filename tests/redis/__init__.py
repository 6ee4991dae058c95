"""The Redis tier. What the state machine asserts is shown in full, as in a test's own file."""

import pytest

pytest.register_assert_rewrite(
    *(
        f"tests.redis.{name}"
        for name in ("bench", "compare", "drain", "driver", "ledger", "machine")
    )
)
