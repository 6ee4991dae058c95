"""Times as people and programs give them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from callbacks.when import Moment, instant, read_when, rfc3339

NOW_S = 1_767_225_600.0  # 2026-01-01T00:00:00Z


@pytest.mark.parametrize(
    ("given", "ago_s"),
    [
        ("90", 90),
        ("1.5", 1.5),
        ("90s", 90),
        ("10m", 600),
        ("10min", 600),
        ("2h", 7_200),
        ("3d", 259_200),
        ("2025-12-31T23:00:00Z", 3_600),
        ("2025-12-31T23:00:00", 3_600),
        ("2026-01-01T00:00:00+01:00", 3_600),
        (timedelta(minutes=1), 60),
        (datetime(2025, 12, 31, tzinfo=UTC), 86_400),
    ],
)
def test_a_time_is_a_duration_or_an_instant(given: Moment, ago_s: float) -> None:
    when = read_when(given)
    assert NOW_S - when.ago(NOW_S) == ago_s
    if when.length_s is not None:
        assert when.ahead(NOW_S) == ago_s
    else:
        assert when.ahead(NOW_S) == -ago_s
    assert read_when(when) is when


@pytest.mark.parametrize("given", ["", "yesterday", "5x", "-1", "1e3", "2026-13-01", "9" * 12])
def test_any_other_text_is_refused_with_what_is_expected(given: str) -> None:
    with pytest.raises(ValueError, match="is not a time; expected seconds") as caught:
        read_when(given)
    assert "10m" in str(caught.value)


def test_an_instant_needs_its_time_zone_in_python() -> None:
    with pytest.raises(ValueError, match="has no time zone"):
        read_when(datetime(2026, 1, 1))  # noqa: DTZ001
    with pytest.raises(ValueError, match="a float is not a time"):
        read_when(90.0)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("at_s", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (NOW_S + 0.0004, "2026-01-01T00:00:00.000Z"),
        (NOW_S + 0.9996, "2026-01-01T00:00:01.000Z"),
        (NOW_S + 0.123, "2026-01-01T00:00:00.123Z"),
    ],
)
def test_an_instant_is_written_in_utc_to_the_millisecond(at_s: float, text: str) -> None:
    assert rfc3339(at_s) == text
    assert instant(text) == pytest.approx(at_s, abs=0.0005)
