"""The model behind scripts/simulate: repeatable, its books balance, and the check sees defects."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest

from callbacks.model import Outcome, Recovered
from callbacks.settings import load_settings
from scripts.simulation import __main__ as command
from scripts.simulation import billion, check, report
from scripts.simulation.events import Loop
from scripts.simulation.options import parse
from scripts.simulation.receivers import quick
from scripts.simulation.records import Callback
from scripts.simulation.ring import Ring
from scripts.simulation.small import ALL, BURST, HANGING, HOST, KILLED, SHARDS, Small, simulate
from scripts.simulation.system import Size, System

#: Everything goes wrong that goes wrong in the long run, in eight seconds.
TINY = billion.Plan(
    a_day=10_000_000,
    length_s=60,
    workers=20,
    threads=4,
    shards=4,
    destinations=2_000,
    bursts_s=(4, 30, 55),
    hang_s=6,
    kill_s=12,
    away_s=40,
    away_length_s=5,
    away_shard=1,
)


def silent(line: str) -> None:
    """Say nothing."""


@pytest.fixture(scope="module")
def tiny() -> billion.Run:
    return billion.run(TINY, {}, 1, silent)


def requests(small: Small, seed: int) -> list[tuple[float, str, str]]:
    return [tuple(hit) for hit in simulate(small, seed)[0].hits]


def test_what_is_planned_comes_in_order_and_what_is_planned_for_now_comes_last() -> None:
    loop, seen = Loop(), []
    loop.at(5, seen.append, "b")
    loop.at(5, lambda: loop.at(1, seen.append, "d"))
    loop.at(5, seen.append, "c")
    loop.at(2, seen.append, "a")
    loop.at(9, seen.append, "too late")

    loop.run(8)

    assert (seen, loop.now) == (["a", "b", "c", "d"], 8)


def test_a_ring_has_each_destination_once_at_its_last_place() -> None:
    system = System(load_settings({}), Size(1, 1), 1)
    receiver, ring, other = quick("well", 0.01), Ring(), Ring()
    a, b, c = (system.destination(n, f"d-{n}", receiver, proven=True) for n in range(3))
    for destination, place in ((a, 30), (b, 20), (a, 10), (a, 30), (a, 10), (c, 5)):
        ring.put(destination, place)
    other.put(c, 5)
    ring.join(b, 25)  # later than its place

    assert (ring.first(), ring.until(20), other.until(5)) == (10, [a, b], [c])
    taken = ring.take(15, 9)
    assert (taken, ring.first()) == ([a], 20)
    ring.put_back(taken)
    assert ring.take(99, 9) == [a, b]


def test_the_same_seed_gives_the_same_run_and_another_one_another(tiny: billion.Run) -> None:
    again = billion.run(TINY, {}, 1, silent)
    other = billion.run(TINY, {}, 2, silent)

    assert again.system.figures.sends == tiny.system.figures.sends
    assert again.system.costs.calls == tiny.system.costs.calls
    assert other.system.figures.sends != tiny.system.figures.sends


def test_every_callback_ends_once_or_still_waits(tiny: billion.Run) -> None:
    totals, figures = tiny.system.totals(), tiny.system.figures
    waiting = totals["queued"] + totals["processing"]

    assert totals["accepted"] == totals["sent"] + totals["dead"] + waiting
    assert totals["accepted"] == sum(sum(each.values()) for each in figures.accepted.values())
    assert totals["sent"] == sum(sum(each.values()) for each in figures.delivered.values())
    assert totals["recovered"] > 0  # the killed workers had some
    assert figures.refused > 0  # the shard that was away
    assert totals["sent"] > 0.9 * totals["accepted"]


def test_a_callback_that_ends_twice_is_found_out() -> None:
    system = System(load_settings({}), Size(1, 1), 1)
    destination = system.destination(1, "d-1", quick("well", 0.01), proven=True)
    callback = Callback(1, destination, 0)
    system.shards[0].end(callback, Outcome.SENT)

    with pytest.raises(AssertionError, match="has ended twice"):
        system.shards[0].end(callback, Outcome.DEAD)


@pytest.mark.parametrize("small", [BURST, HANGING, KILLED], ids=lambda each: each.name)
def test_no_request_comes_sooner_than_its_destinations_interval(small: Small) -> None:
    settings = load_settings(small.variables)
    _, system = simulate(small, 3)

    assert len(system.figures.gaps) > 50
    assert not system.figures.too_close
    if not settings.adaptive:
        assert min(system.figures.gaps) >= settings.destination_interval * 1_000


def test_the_stagger_of_all_shards_is_never_exceeded() -> None:
    trace, _ = simulate(SHARDS, 4)

    times = sorted(round(hit.at_s * 1_000) for hit in trace.hits)
    assert len(times) == SHARDS.well * SHARDS.each
    assert min(later - at for at, later in pairwise(times)) >= 20


def test_a_hanging_destination_gets_no_more_than_its_places() -> None:
    _, system = simulate(HANGING, 5)

    assert max(unproven for _, unproven, _, _ in system.figures.places) == 3
    assert max(busy for busy, _, _, _ in system.figures.places) <= 6


def test_a_killed_process_loses_what_it_had_and_all_of_it_comes_again() -> None:
    trace, system = simulate(KILLED, 6)

    counts: dict[str, int] = {}
    for hit in trace.hits:
        counts[hit.id] = counts.get(hit.id, 0) + 1
    assert len(counts) == KILLED.well * KILLED.each
    assert set(counts.values()) == {1, 2}
    assert len(system.workers.alive()) == 1
    assert system.is_settled


def figures_of(small: Small, seed: int, **more: object) -> dict[str, float]:
    return check.modelled(small, seed, HOST, **more)


@pytest.mark.parametrize("small", ALL, ids=lambda each: each.name)
def test_the_check_accepts_another_seed(small: Small) -> None:
    compared = check.compare(small, figures_of(small, 10), figures_of(small, 20))

    assert [each for each in compared if not each.holds] == []


def no_interval(system: System) -> None:
    for shard in system.shards:
        shard.c = shard.c | {"interval": 0, "interval_us": 1_000, "interval_min_us": 1_000}


def half_the_stagger(system: System) -> None:
    take = system.home.take
    system.home.take = lambda wait, pace, *, must=False: take(wait, pace // 2, must=must)
    grant = system.home.grant
    system.home.grant = lambda shard, pace: grant(shard, pace // 2)


def no_recovery(system: System) -> None:
    for shard in system.shards:
        shard.reclaim = lambda limit, *, chance: Recovered(0, 0, 0)


def no_limit_of_places(system: System) -> None:
    for process in system.workers.processes:
        process.unproven_most = process.threads


def no_turns(system: System) -> None:
    """Claims of proven destinations reach the whole horizon while others wait."""
    for shard in system.shards:
        shard.c = shard.c | {"window": 2_000}


@pytest.mark.parametrize(
    ("small", "defect", "seen"),
    [
        (HANGING, no_interval, "gap of a destination, median, ms"),
        (SHARDS, half_the_stagger, "gap over all, median, ms"),
        (KILLED, no_recovery, "callbacks sent"),
        (HANGING, no_limit_of_places, "requests to those that hang"),
        (BURST, no_turns, "gap of a destination, median, ms"),
    ],
    ids=lambda each: getattr(each, "__name__", None),
)
def test_the_check_sees_a_defect_of_the_model(small: Small, defect: object, seen: str) -> None:
    compared = check.compare(small, figures_of(small, 1, defect=defect), figures_of(small, 1))

    assert seen in {each.what for each in compared if not each.holds}


def test_a_figure_that_is_too_far_off_is_marked() -> None:
    near = check.Compared("s", "w", 10, 11, 1, 1)
    far = check.Compared("s", "w", 10, 12.5, 2.5, 1)

    assert [line.endswith("NO") for line in check.lines([near, far])] == [False, False, True]


def test_the_report_has_all_that_the_docs_speak_of(tiny: billion.Run) -> None:
    found = report.rows(tiny)
    values = {(row.section.split(" (")[0], row.what): row.value for row in found}

    assert values["the run", "accepted less all of these states"] == 0
    assert values["paces", "requests sooner than their interval"] == 0
    assert values["recovery of shard 1", "first request after it was back"] > 0
    assert values["recovery from the kill", "taken back"] > 0
    assert len(report.lines(found)) > len(found)


def test_the_command_prints_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    words = "--json --seconds 2 --workers 3 --threads 2 --set shards=2 --set batch_size=10"

    assert command.main(parse(words.split())) == 0

    told = json.loads(capsys.readouterr().out)
    assert told["plan"]["workers"] == 3
    assert {"section", "what", "value", "unit"} == set(told["figures"][0])


@pytest.mark.parametrize(
    "words", [["--set", "batch_size"], ["--seconds", "0"], ["--check", "--billion"]]
)
def test_a_wrong_option_is_refused(words: list[str]) -> None:
    with pytest.raises(SystemExit):
        parse(words)
