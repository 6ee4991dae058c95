"""The parts of scripts/bench that could silently make its figures wrong."""

from __future__ import annotations

from typing import Any

import pytest

from callbacks.cli.receiver import Hit
from scripts.benchmark.alone import marked
from scripts.benchmark.contenders import Contender
from scripts.benchmark.drain import Drained
from scripts.benchmark.drains import Drains
from scripts.benchmark.inflight import InFlight
from scripts.benchmark.options import parse
from scripts.benchmark.pacing import most_within
from scripts.benchmark.receiver import Noted
from scripts.benchmark.request import BODY, check, headers
from scripts.benchmark.server import caption
from scripts.benchmark.table import Row, absolute, compared, lines, percentile


def test_a_contender_that_sends_something_else_is_found_out() -> None:
    fields = headers("c-1")
    check(fields, BODY)
    with pytest.raises(AssertionError, match="webhook-signature"):
        check({name: v for name, v in fields.items() if name != "webhook-signature"}, BODY)
    with pytest.raises(AssertionError, match="body"):
        check(fields, BODY[:-1])
    with pytest.raises(Exception, match="matches none"):
        check(fields | {"webhook-id": "another"}, BODY)


def test_a_ratio_is_the_median_of_the_rounds_own_ratios() -> None:
    # 10/5 = 2, 30/10 = 3, 100/10 = 10: their median is 3; the ratio of the medians would be 30/10.
    row = compared("s", "w", [10, 30, 100], [5, 10, 10], "/s")

    assert row == Row("s", "w", "30.0 /s", "10.0 /s", 3, "10.0 to 100.0")
    assert compared("s", "w", [10, 2, 9], [10, 1, 3], "/s").ratio == 2


@pytest.mark.parametrize(("share", "value"), [(0, 1), (0.05, 2), (0.5, 11), (0.95, 20), (1, 21)])
def test_a_percentile_is_one_of_the_values(share: float, value: int) -> None:
    assert percentile(range(21, 0, -1), share) == value


def test_each_section_has_one_heading() -> None:
    rows = [Row("a", "one", "1"), Row("a", "two", "2", "4", 0.5), Row("b", "three", "3")]

    shown = "\n".join(lines(rows))

    assert [shown.count(f"\n{name}\n") for name in "ab"] == [1, 1]
    assert "0.50" in shown


def test_what_was_measured_once_has_no_spread() -> None:
    assert absolute("s", "w", [3], "ms") == Row("s", "w", "3.00 ms")
    assert absolute("s", "w", [3, 1, 2.5], "ms") == Row("s", "w", "2.50 ms", spread="1.00 to 3.00")


def test_drains_are_void_where_the_receiver_is_too_slow() -> None:
    rows = [Row("drain", "Celery", "3 /s", "1 /s", 3)]

    assert marked(rows, 20_000) == rows
    void, *rest = marked(rows, 19_999)
    assert (void.section, rest) == ("drain", rows)
    assert void.what == "NOT VALID: the receiver alone did 19,999 /s, not 20,000"
    assert marked([], 1) == []


@pytest.mark.parametrize(
    ("info", "maps", "told"),
    [
        (
            {"redis_version": "7.0.15", "mem_allocator": "jemalloc-5.3.0"},
            "/lib/libc.so.6",
            "Redis 7.0.15 with jemalloc-5.3.0",
        ),
        (
            {
                "server_name": "valkey",
                "redis_version": "7.2.4",
                "valkey_version": "9.1.2",
                "mem_allocator": "libc",
            },
            "/lib/libc.so.6\n/somewhere/libmimalloc.so.3.4",
            "Valkey 9.1.2 with mimalloc (preloaded)",
        ),
        (  # should have been preloaded, but was not
            {"server_name": "valkey", "redis_version": "7.2.4", "mem_allocator": "libc"},
            "/lib/libc.so.6",
            "Valkey 7.2.4 with libc",
        ),
    ],
)
def test_the_allocator_is_named_that_is_really_there(
    info: dict[str, Any], maps: str, told: str
) -> None:
    assert caption(info, maps) == told


def test_the_receiver_tells_when_each_request_came() -> None:
    noted = Noted()
    for at_s in (1.0, 2.5):
        noted.answer(Hit(at_s, 0.0, "POST", "/", {}, b"body"))

    assert noted.order("times\n") == [1.0, 2.5]
    stats = noted.order("stats\n")
    assert (stats["count"], stats["seconds"]) == (2, 1.5)
    assert noted.order("reset 0.5\n") is True
    assert noted.answer(Hit(3.0, 0.0, "POST", "/", {}, b"")).delay_s == 0.5
    assert noted.order("times\n") == [3.0]


class Tried(Drains):
    """Drains that only record who is measured; later ones are faster."""

    def __init__(self, *arguments: str) -> None:
        nobody: Any = None
        super().__init__(parse(arguments), nobody, True, print)
        self.names: list[str] = []

    def _once(self, contender: Contender, count: int, delay_s: float) -> Drained:
        self.names.append(contender.name)
        return Drained(len(self.names), 1, 1, 1, 1, 1, 1, 1, 1)


def test_a_quick_run_shows_the_four_and_tries_no_pools() -> None:
    drains = Tried("--quick")

    drains.at_once()

    shown = ["callbacks", "Celery threads (by hand", "BullMQ", "bare requests.post"]
    assert len(drains.names) == 4
    for name, start in zip(drains.names, shown, strict=True):
        assert name.startswith(start)


def test_the_pool_of_each_celery_job_is_chosen_by_trials_of_that_job() -> None:
    drains = Tried()

    drains.slowly()

    trials, rounds = drains.names[:4], drains.names[4:]
    assert [name.split(",")[0] for name in trials] == [
        "Celery threads (bare task each)",
        "Celery gevent (bare task each)",
        "Celery threads (by hand: list",
        "Celery gevent (by hand: list",
    ]
    assert rounds == 3 * rounds[:5]
    assert rounds[1:3] == [trials[1], trials[3]]


def test_everything_is_the_whole_table_with_curve_and_charts() -> None:
    options = parse(["--all"])

    assert options.curve
    assert options.plot
    assert options.subjects == parse([]).subjects


class TriedInFlight(InFlight):
    """Only notes who was to be measured, with what delay; who comes later is faster."""

    def __init__(self, *arguments: str) -> None:
        nobody: Any = None
        super().__init__(parse(arguments), nobody, True, print)
        self.runs: list[tuple[str, float]] = []

    def _once(self, contender: Contender, places: int, delay_s: float) -> Drained:
        self.runs.append((contender.short, delay_s))
        return Drained(len(self.runs), 1, 1, 1, 1, 1, 1, 1, 1)


def test_a_thousand_in_flight_are_measured_in_turn_with_each_delay() -> None:
    flight = TriedInFlight()

    rows = flight.rows()

    names = [one.short for one in flight.contenders]
    assert names == [
        "callbacks, greenlets",
        "callbacks, 500 threads",
        "callbacks, 64 threads",
        "BullMQ",
        "bare gevent loop",
    ]
    assert flight.runs == [(name, delay_s) for delay_s in (0.1, 0.5, 1.0) for name in names] * 3
    assert [len({row.section for row in rows}), len(rows)] == [4, 3 * 8 + 8]
    # The first round's runs are 1 to 15: ours came to 1, 6, 11, and its neighbour to one more.
    assert rows[0] == Row(
        rows[0].section, rows[0].what, "16.0 /s", "17.0 /s", 16 / 17, "1.00 to 31.0"
    )


def test_a_quick_run_has_one_delay_in_flight_and_shorter_drains() -> None:
    quick, full = TriedInFlight("--quick"), TriedInFlight()

    quick.rows()

    assert {delay_s for _, delay_s in quick.runs} == {0.5}
    assert [full._count(places, 1.0) for places in (128, 1_000)] == [640, 5_000]
    assert [full._count(places, 0.1) for places in (128, 1_000)] == [6_000, 6_000]
    assert [quick._count(places, 0.5) for places in (128, 1_000)] == [512, 2_000]


def test_pinned_workers_are_measured_in_turn_with_roaming_ones() -> None:
    drains = Tried()

    rows = drains.pinned()

    assert drains.names == ["pinned", "roaming"] * 6
    assert [row.what for row in rows] == [
        f"answers {told}: {what}"
        for told in ("at once", "after 100 ms")
        for what in ("rate", "CPU of the worker processes")
    ]


@pytest.mark.parametrize(
    ("times", "most"),
    [
        ([0.0], 1),
        ([0.0, 0.25, 0.5], 1),  # a span's end is not part of it
        ([0.0, 0.1, 0.2, 0.4], 3),
        ([0.0, 1.0, 1.01, 1.02, 1.03, 5.0], 4),
    ],
)
def test_the_busiest_span_of_a_burst_is_found(times: list[float], most: int) -> None:
    assert most_within(times, 0.25) == most
