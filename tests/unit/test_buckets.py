from __future__ import annotations

import math
from bisect import bisect_left

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callbacks.policy.buckets import (
    DELAY_MS,
    DURATION_MS,
    Counted,
    cumulated,
    field_of_attempt,
    quantile,
    read_field,
)


@pytest.mark.parametrize(
    ("given", "field"),
    [
        (("sent", "", 204, 250, 30_000), "sent none 2xx 250 30000"),
        (("sent", "", 200, 251, 0), "sent none 2xx 500 100"),
        (("retry", "timeout", None, 10_000, None), "retry timeout none 10000 none"),
        (("dead", "client_error", 401, 0, None), "dead client_error 4xx 5 none"),
        (("sent", "", 200, 30_001, 86_400_001), "sent none 2xx inf inf"),
    ],
)
def test_an_attempt_is_one_field(
    given: tuple[str, str, int | None, int, int | None], field: str
) -> None:
    assert field_of_attempt(*given) == field


def test_a_field_is_read_back_and_sums_are_no_attempts() -> None:
    found = read_field("dead server_error 5xx 250 none", 3)
    assert found == Counted("dead", "server_error", "5xx", 250.0, None, 3)
    crashed = read_field("retry crashed none none none", 1)
    assert crashed == Counted("retry", "crashed", "none", None, None, 1)
    assert read_field("duration", 12_345) is None


def test_counts_are_added_up_to_each_bound() -> None:
    counts = [(5.0, 2), (10.0, 1), (10.0, 1), (float("inf"), 4)]
    assert cumulated(counts, (5, 10, 2_500)) == [("0.005", 2), ("0.01", 4), ("2.5", 4), ("+Inf", 8)]


def test_a_bound_of_another_release_counts_in_the_next_one() -> None:
    assert cumulated([(7.0, 1), (999_999.0, 1)], (5, 10)) == [
        ("0.005", 0),
        ("0.01", 1),
        ("+Inf", 2),
    ]


@pytest.mark.parametrize("bounds", [DURATION_MS, DELAY_MS])
@given(times=st.lists(st.integers(0, 100_000_000)))
def test_each_time_is_counted_up_to_every_bound_it_does_not_exceed(
    bounds: tuple[int, ...], times: list[int]
) -> None:
    fields = [read_field(field_of_attempt("sent", "", 200, t, t), 1) for t in times]
    longer = bounds is DELAY_MS
    counts = [(f.delay_ms if longer else f.duration_ms, 1) for f in fields if f]
    expected = [sum(t <= bound for t in times) for bound in bounds]
    found = cumulated([(bound, n) for bound, n in counts if bound is not None], bounds)
    assert [n for _, n in found] == [*expected, len(times)]


@pytest.mark.parametrize(
    ("counts", "share", "value"),
    [
        ([(10.0, 4)], 0.5, 5.0),  # 2 of 4: half of the way from 0 to 10
        ([(20.0, 4)], 0.5, 15.0),  # the bucket begins where the one before ends, empty or not
        ([(10.0, 90), (20.0, 10)], 0.95, 15.0),  # 5 of the 10 above 10
        ([(10.0, 90), (20.0, 10)], 0.9, 10.0),
        ([(10.0, 1), (40.0, 1)], 0.5, 10.0),
        ([(10.0, 1), (float("inf"), 9)], 0.5, 40.0),  # beyond the last bound: that one
        ([(15.0, 2)], 0.5, 15.0),  # a bound of another release counts in the next higher one
        ([(40.0, 1)], 1.0, 40.0),
    ],
)
def test_a_quantile_lies_in_its_bucket(
    counts: list[tuple[float, int]], share: float, value: float
) -> None:
    assert quantile(counts, (10, 20, 40), share) == pytest.approx(value)


@given(times=st.lists(st.integers(1, 86_400_000), min_size=1), share=st.floats(0.01, 1.0))
def test_a_quantile_is_in_the_same_bucket_as_the_true_one(times: list[int], share: float) -> None:
    fields = [read_field(field_of_attempt("sent", "", 200, 1, t), 1) for t in times]
    counts = [(f.delay_ms, 1) for f in fields if f and f.delay_ms is not None]
    true = sorted(times)[math.ceil(share * len(times)) - 1]
    found = quantile(counts, DELAY_MS, share)
    at = bisect_left(DELAY_MS, true)
    assert (0, *DELAY_MS)[at] <= found <= DELAY_MS[at]
