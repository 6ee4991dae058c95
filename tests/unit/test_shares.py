"""How shards share places and threads."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callbacks.policy.shares import fair_shares


@pytest.mark.parametrize(
    ("total", "wants", "shares"),
    [
        (64, [], []),
        (64, [500], [64]),
        (64, [500, 500], [32, 32]),
        (64, [500, 4], [60, 4]),
        (64, [0, 0], [32, 32]),
        (64, [10, 4], [35, 29]),  # 50 are wanted by nobody: 25 more for each
        (2, [9, 9, 9], [0, 1, 1]),
        (10, [1, 2, 100, 100], [1, 2, 3, 4]),
    ],
)
def test_who_wants_little_gets_that_and_the_others_share_the_rest(
    total: int, wants: list[int], shares: list[int]
) -> None:
    assert fair_shares(total, wants) == shares


@given(
    total=st.integers(min_value=0, max_value=1_000),
    wants=st.lists(st.integers(min_value=0, max_value=1_000), min_size=1, max_size=64),
)
def test_all_is_given_out_and_nobody_gets_less_than_an_even_part_it_wants(
    total: int, wants: list[int]
) -> None:
    shares = fair_shares(total, wants)
    assert sum(shares) == total
    even = total // len(wants)
    assert all(share >= min(want, even) for share, want in zip(shares, wants, strict=True))
