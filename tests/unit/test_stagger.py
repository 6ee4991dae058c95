from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callbacks.model import Demand
from callbacks.policy.stagger import Stagger, StaggerWhy, next_stagger


def decide(
    ready: int = 0,
    accepted: float = 0,
    before: float | None = None,
    tried: int = 0,
    failing: int = 0,
    *,
    unproven: int = 0,
    waiting: int = 0,
    per_s: int = 0,
) -> Stagger:
    return next_stagger(
        Demand(ready, accepted, before, tried, failing, unproven, waiting, per_s),
        base_s=0.2,
        min_s=0.005,
        max_s=5,
        drain_target_s=60,
        batch_size=100,
    )


@pytest.mark.parametrize(
    ("ready", "accepted", "before", "rate", "why"),
    [
        (0, 0, None, 5, StaggerWhy.BASE),
        (300, 0, None, 5, StaggerWhy.BASE),  # 300 / 60 s: exactly the base rate
        (600, 0, None, 10, StaggerWhy.DEMAND),
        (600, 20, None, 30, StaggerWhy.DEMAND),  # 20 arrive, half of that on top
        (3_000, 20, None, 70, StaggerWhy.DEMAND),  # 20 arrive, 3,000 / 60 wait
        (30, 20, None, 26, StaggerWhy.DEMAND),  # 20 arrive, 30 / 5 catch up
        (0, 50, None, 50, StaggerWhy.DEMAND),
        (10_000, 0, None, 10_000 / 60, StaggerWhy.DEMAND),
        (5_000, 0, 150, 150, StaggerWhy.HELD),  # not lowered while it drains
        (100, 0, 150, 150, StaggerWhy.HELD),
        (99, 0, 150, 5, StaggerWhy.BASE),  # less than a batch: down again
        (60_000, 0, None, 200, StaggerWhy.DEMAND),  # the bound: 5 ms
    ],
)
def test_the_rate_covers_arrivals_and_backlog(
    ready: int, accepted: float, before: float | None, rate: float, why: StaggerWhy
) -> None:
    decision = decide(ready, accepted, before)
    assert decision.rate_per_s == pytest.approx(rate)
    assert decision.interval_s == pytest.approx(1 / rate)
    assert decision.why is why


@pytest.mark.parametrize(
    ("tried", "failing", "interval_s"),
    [
        (9, 9, 0.2),  # too few to tell
        (10, 10, 5.0),  # 32 times 0.2 s is 6.4 s, beyond the bound of 5 s
        (10, 9, 0.2),  # one still answers, so our network is there
        (1_000, 999, 0.2),
    ],
)
def test_it_slows_down_when_all_that_had_answered_fail_in_transport(
    tried: int, failing: int, interval_s: float
) -> None:
    decision = decide(tried=tried, failing=failing)
    assert decision.interval_s == pytest.approx(interval_s)
    assert decision.rate_per_s == 5


def test_a_backlog_of_ten_thousand_is_gone_in_its_time_and_not_in_ever_smaller_steps() -> None:
    ready, before, elapsed = 10_000.0, None, 0.0
    while ready > 0:
        decision = decide(int(ready), 0, before)
        before = decision.rate_per_s
        ready -= 1 / decision.interval_s  # one second of work
        elapsed += 1
    assert elapsed <= 60 + 20  # the last batch is sent at the base rate of 5 per second


@given(
    ready=st.integers(0, 10**9),
    accepted=st.floats(0, 1e6),
    before=st.none() | st.floats(0.001, 1e6),
    tried=st.integers(0, 10**6),
    failing=st.integers(0, 10**6),
)
def test_the_stagger_stays_within_its_bounds(
    ready: int, accepted: float, before: float | None, tried: int, failing: int
) -> None:
    assert 0.005 <= decide(ready, accepted, before, tried, failing).interval_s <= 5


def test_who_has_not_answered_lately_gets_requests_on_top_of_the_others() -> None:
    decision = decide(unproven=64)
    assert decision.interval_s == pytest.approx(1 / (5 + 64 / 5))
    assert decision.rate_per_s == 5, "they do not raise what is held while a backlog lasts"


@pytest.mark.parametrize(
    ("waiting", "per_s", "before", "rate"),
    [
        (3_000, 128, None, 50),  # 3,000 / 60 s
        (3_000, 6, None, 6),  # they hang, and a place becomes free now and then
        (3_000, 0, 50, 5),  # they hang, and all places are taken
        (1_200, 60, 50, 50),  # not lowered while they drain ...
        (1_200, 30, 50, 50),
        (1_200, 12, 50, 24),  # ... unless their places become free more slowly
        (99, 60, 50, 5),
    ],
)
def test_who_has_not_answered_lately_counts_as_backlog_as_fast_as_places_come_free(
    waiting: int, per_s: int, before: float | None, rate: float
) -> None:
    decision = decide(before=before, waiting=waiting, per_s=per_s)
    assert decision.rate_per_s == pytest.approx(rate)
