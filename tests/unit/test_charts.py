"""What the charts of the console draw, and the tables beside them."""

from __future__ import annotations

import pytest

from callbacks.monitor.history import Change, Delays, Point, Series
from callbacks.web.charts import HEIGHT, WIDTH, Chart, Line, charts_of, round_up


def chart(*values: float | None, stacked: bool = False) -> Chart:
    return Chart("c", "C", range(len(values)), [Line("a", values)], stacked=stacked)


def test_the_upper_edge_is_a_round_number_above_all_values() -> None:
    assert [round_up(value) for value in (0, 0.2, 1, 1.1, 4, 7, 10, 11, 340, 999)] == [
        1, 1, 1, 2, 5, 10, 10, 20, 500, 1_000,
    ]  # fmt: skip
    assert chart(1, 30, 7).top == 50


def test_a_line_goes_from_edge_to_edge_and_has_a_gap_where_nothing_is_known() -> None:
    assert chart(0, 5, 10).paths[0].d == f"M0 {HEIGHT}L{WIDTH // 2} {HEIGHT // 2}L{WIDTH} 0"
    assert chart(1, None, 1, 1).paths[0].d == "M0 0h.01M400 0L600 0"
    assert chart(None, None).paths[0].d == ""
    assert chart().paths[0].d == ""


def test_layers_stand_on_each_other() -> None:
    lines = [Line("a", [1, 2]), Line("b", [4, None])]
    stacked = Chart("c", "C", [0, 60], lines, stacked=True)
    assert stacked.top == 5
    lower, upper = stacked.paths
    assert lower.d == "M0 112L600 84L600 140L0 140Z"
    assert upper.d == "M0 0L600 84L600 84L0 112Z"


def test_a_chart_is_described_in_words_and_numbers() -> None:
    shown = chart(1, 1_200, None)
    assert shown.description == "a: at most 1,200, last 1,200."
    assert chart(0, 0).description == "Nothing happened."
    assert chart().description == "There is no sample yet."


def test_the_table_has_at_most_twelve_rows_that_end_with_the_last_instant() -> None:
    values = [float(n) for n in range(60)]
    shown = Chart("c", "C", range(60), [Line("a", values)], combine=sum)
    assert len(shown.rows) == 12
    assert shown.rows[-1] == (59, ["285"])
    assert shown.rows[0] == (4, ["10"])


def test_a_table_tells_the_unknown_from_nothing() -> None:
    assert chart(None, 0).rows == [(0, ["-"]), (1, ["0"])]


def point(*, sent: int = 0, failed: dict[str, int] | None = None) -> Point:
    totals = dict.fromkeys(("accepted", "sent", "dead"), 0) | {"sent": sent}
    change = Change(120.0, totals, failed or {}, Delays(0.2, 3.0, 70.0) if sent else None)
    return Point(4.0, 0.0, change)


def test_the_four_charts_show_rates_failures_ages_and_delays() -> None:
    points = (point(sent=20), None, point(failed={"timeout": 3, "dns": 1}))
    rates, failed, ages, delays = charts_of(Series(0, 60_000, points, None))
    assert [line.label for line in rates.lines] == ["accepted", "sent", "dead"]
    assert rates.lines[1].values == [10.0, None, 0.0]  # a minute: the samples are two apart
    assert rates.times == [60.0, 120.0, 180.0]
    assert {line.label: line.values for line in failed.lines} == {
        "timeout": [0, None, 3],
        "dns": [0, None, 1],
    }
    assert ages.lines[0].values == [4.0, None, 4.0]
    assert [line.values[0] for line in delays.lines] == [0.2, 3.0, 70.0]
    assert delays.lines[0].values[2] is None
    assert delays.rows[0][1] == ["0.2 s", "3.0 s", "70 s"]


def test_rare_reasons_share_a_layer() -> None:
    counts = {f"r{n}": 10 - n for n in range(7)}
    (_, failed, *_) = charts_of(Series(0, 60_000, (point(failed=counts),), None))
    assert [line.label for line in failed.lines] == ["r0", "r1", "r2", "r3", "r4", "others"]
    assert failed.lines[-1].values == [9]


@pytest.mark.parametrize("count", [0, 1, 144])
def test_any_number_of_samples_can_be_drawn(count: int) -> None:
    for drawn in charts_of(Series(0, 60_000, (None,) * count, None)):
        assert drawn.paths
        assert len(drawn.rows) <= 12
