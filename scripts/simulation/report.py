"""What a long run has shown, as rows and as one document."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final, NamedTuple

from scripts.benchmark.table import number
from scripts.simulation.billion import Plan, Run
from scripts.simulation.costs import HOME
from scripts.simulation.figures import APART, percentile

_WELL: Final = ("busy", "usual", "rare")
_UNWELL: Final = "hanging"
_SHARES: Final = (0.5, 0.99, 1.0)
#: For so long the rate is watched after the kill.
_DIP_S: Final = 20


class Row(NamedTuple):
    """One figure: its part of the report, its name, its value, its unit."""

    section: str
    what: str
    value: float
    unit: str = ""


def rows(run: Run) -> list[Row]:
    """All figures of a run."""
    return [
        *_size(run),
        *(row for name, first, last in _phases(run.plan) for row in _phase(run, name, first, last)),
        *_paces(run),
        *_killed(run),
        *_away(run),
        *_redis(run),
    ]


def _phases(plan: Plan) -> list[tuple[str, int, int]]:
    """Spans of time in seconds, which bursts are in or not."""
    burst = plan.bursts_s[0]
    back = plan.away_s + plan.away_length_s
    return [
        ("all is well, no burst", 7, burst),
        ("a burst of three times the rate, and after it", burst, plan.hang_s),
        ("2 % of all destinations hang", plan.hang_s + 5, plan.kill_s),
        ("5 % of the workers killed", plan.kill_s, plan.kill_s + 10),
        ("a burst, while 2 % hang", plan.bursts_s[1], plan.bursts_s[1] + 10),
        ("one shard away", plan.away_s, back),
        ("it is back", back, plan.bursts_s[2]),
    ]


def _size(run: Run) -> Iterator[Row]:
    totals, length_s = run.system.totals(), run.plan.length_s
    yield Row("the run", "simulated", length_s, "s")
    yield Row("the run", "CPU of the simulation", run.cpu_s, "s")
    yield Row("the run", "memory, at most", run.peak_mb, "MB")
    yield Row("the run", "destinations used", run.producers.known)
    for name in ("accepted", "sent", "dead", "queued", "processing", "recovered", "stale"):
        yield Row("the run", name, totals[name])
    ended = totals["sent"] + totals["dead"] + totals["queued"] + totals["processing"]
    yield Row("the run", "accepted less all of these states", totals["accepted"] - ended)
    yield Row("the run", "sent a second", totals["sent"] / length_s, "/s")


def _phase(run: Run, name: str, first: int, last: int) -> Iterator[Row]:
    figures = run.system.figures
    span = range(first, min(last, run.plan.length_s))
    section = f"{name} ({first} to {last} s)"
    if not span:
        return
    yield from _served(run, section, span)
    yield from _waits(run, section, span)
    places = figures.places[first:last]
    yield Row(section, "places taken", _mean([each[0] / each[2] for each in places]), "of all")
    unproven = _mean([each[1] / each[2] for each in places])
    yield Row(section, "of them by unproven destinations", unproven, "of all")
    yield Row(section, "messages without a thread", max(each[3] for each in places))


def _served(run: Run, section: str, span: range) -> Iterator[Row]:
    figures, everyone = run.system.figures, (*_WELL, _UNWELL)
    accepted = {each: sum(figures.accepted[each][s] for s in span) for each in everyone}
    delivered = {each: sum(figures.delivered[each][s] for s in span) for each in everyone}
    yield Row(section, "accepted", sum(accepted.values()) / len(span), "/s")
    yield Row(section, "delivered", sum(delivered.values()) / len(span), "/s")
    for each in everyone:
        share = delivered[each] / max(1, accepted[each])
        yield Row(section, f"delivered to {each} ones, of what they got", share)


def _waits(run: Run, section: str, span: range) -> Iterator[Row]:
    figures = run.system.figures
    for who, names in (("well", _WELL), ("hanging", (_UNWELL,)), ("in shard", (APART,))):
        waits = sorted(wait for name in names for s in span for wait in figures.waits[name][s])
        for share in _SHARES if waits else ():
            what = "longest wait" if share == 1 else f"wait, {share:.0%} are shorter"
            told = f"{who} {run.plan.away_shard}" if names == (APART,) else who
            yield Row(section, f"{told}: {what}", percentile(waits, share), "ms")


def _paces(run: Run) -> Iterator[Row]:
    figures, plan = run.system.figures, run.plan
    section = "paces"
    gaps = sorted(figures.gaps)
    yield Row(section, "gaps of a destination", len(gaps))
    yield Row(section, "the shortest", gaps[0] if gaps else 0, "ms")
    yield Row(section, "the median", percentile(gaps, 0.5), "ms")
    yield Row(section, "requests sooner than their interval", sum(figures.too_close.values()))
    yield Row(section, "by at most", max(figures.too_close, default=0), "ms")
    first, last = plan.kill_s + _DIP_S, plan.bursts_s[1]
    tenths = Counter(at // 100 for at in figures.sends if first * 1_000 <= at < last * 1_000)
    each = sorted(tenths.values())
    for share in (0.05, 0.5, 0.95):
        what = f"requests in 100 ms ({first} to {last} s), {share:.0%} have fewer"
        yield Row(section, what, percentile(each, share))
    between = sorted(later - at for at, later in pairwise(figures.sends))
    yield Row(section, "between two requests, the shortest time", percentile(between, 0), "ms")
    yield Row(section, "between two requests, the median", percentile(between, 0.5), "ms")
    per_shard = sorted(figures.shards.values())
    busiest = per_shard[-1] * len(per_shard) / max(1, sum(per_shard))
    yield Row(section, "busiest shard, of the mean", busiest)


def _killed(run: Run) -> Iterator[Row]:
    figures, plan = run.system.figures, run.plan
    section = "recovery from the kill"
    if plan.length_s < plan.kill_s + _DIP_S:
        return
    yield Row(section, "taken back", run.system.totals()["recovered"])
    yield Row(section, "requests made twice", figures.repeats)
    after = figures.crashed_ended_at / 1_000 - plan.kill_s
    yield Row(section, "the last of them delivered after", max(0.0, after), "s")
    delivered = [sum(figures.delivered[each][s] for each in _WELL) for s in range(plan.length_s)]
    before = _mean(delivered[plan.kill_s - 10 : plan.kill_s])
    dip = [s for s in range(plan.kill_s, plan.kill_s + _DIP_S) if delivered[s] < 0.95 * before]
    yield Row(section, "seconds below 95 % of the rate before", len(dip), "s")
    yield Row(
        section,
        "lowest second, of the rate before",
        min(delivered[plan.kill_s :][:_DIP_S]) / before,
    )


def _away(run: Run) -> Iterator[Row]:
    figures, plan = run.system.figures, run.plan
    section = f"recovery of shard {plan.away_shard}"
    if plan.length_s < plan.away_s + plan.away_length_s:
        return
    back_ms = (plan.away_s + plan.away_length_s) * 1_000
    yield Row(section, "enqueues refused meanwhile", figures.refused)
    looks = figures.apart_ms
    sent = max((each[2] for each in looks if each[0] <= back_ms), default=0)
    first = next((each[0] for each in looks if each[0] > back_ms and each[2] > sent), None)
    was = sorted(e[1] for e in looks if -20_000 <= e[0] - plan.away_s * 1_000 < 0)
    backlog = max((each[1] for each in looks if each[0] > back_ms), default=0)
    yield Row(section, "first request after it was back", _since(first, back_ms), "s")
    yield Row(section, "waiting before, in the median", percentile(was, 0.5))
    yield Row(section, "most that waited", backlog)
    late_s = max(0.0, _since(run.system.figures.late_at, back_ms))
    yield Row(section, "the last one late to a well destination after", late_s, "s")


def _since(at_ms: int | None, from_ms: int) -> float:
    return float("nan") if at_ms is None else (at_ms - from_ms) / 1_000


def _redis(run: Run) -> Iterator[Row]:
    costs, length_s = run.system.costs, run.plan.length_s
    section = "Redis, by the measured times of each script"
    busy = {shard: list(each.values()) for shard, each in costs.busy_ms.items()}
    shards = [each for shard, each in busy.items() if shard != HOME]
    calls = [sum(each.values()) / length_s for shard, each in costs.calls.items() if shard != HOME]
    yield Row(section, "scripts a second, busiest shard", max(calls), "/s")
    yield Row(
        section, "busy, mean of all shards", _mean([sum(e) / length_s / 1_000 for e in shards])
    )
    yield Row(section, "busy, busiest second of a shard", max(map(max, shards)) / 1_000)
    yield Row(
        section, "scripts a second, of no shard", sum(costs.calls[HOME].values()) / length_s, "/s"
    )
    home = busy.get(HOME, [0.0])
    yield Row(section, "busy, with messages and ticks", sum(home) / length_s / 1_000)
    yield Row(section, "the same, busiest second", max(home) / 1_000)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def lines(found: Sequence[Row]) -> list[str]:
    """The rows as text, under a heading for each part."""
    width = max(len(row.what) for row in found)
    out: list[str] = []
    section = ""
    for row in found:
        if row.section != section:
            section = row.section
            out += ["", section]
        out.append(f"  {row.what:<{width}}  {number(row.value):>11} {row.unit}".rstrip())
    return out[1:]
