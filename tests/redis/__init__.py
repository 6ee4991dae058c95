"""The Redis tier. Assertions of the state machine are shown in full, as those of test files are."""

import pytest

pytest.register_assert_rewrite(
    *(
        f"tests.redis.{name}"
        for name in ("bench", "compare", "drain", "driver", "ledger", "machine")
    )
)
