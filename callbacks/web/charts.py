"""The charts of the last hour and day, as SVG paths: pure geometry, drawn by `_charts.html`.

A chart has no text inside, and no style of its own: its labels are HTML around it, so that they
stay readable at any width, and its colours are classes of the style sheet. Every chart comes with
a table of the same numbers.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import ClassVar, Final

from callbacks.monitor.history import Point, Series
from callbacks.text import age

WIDTH: Final = 600
HEIGHT: Final = 140
#: Rows of the table beside a chart.
_ROWS: Final = 12
#: Reasons that have a layer of their own.
_LAYERS: Final = 5
_STEPS: Final = (1, 2, 5, 10)

Values = Sequence[float | None]


@dataclass(frozen=True, slots=True)
class Line:
    """One line or layer: its label and a value for each instant, oldest first; None: unknown."""

    label: str
    values: Values


@dataclass(frozen=True, slots=True)
class Path:
    """A line as drawn: `d` is the path, `last` its newest value as text."""

    label: str
    d: str
    last: str


def as_count(value: float) -> str:
    """A count as text."""
    return f"{value:,.0f}"


@dataclass(frozen=True, slots=True)
class Chart:
    """Some lines over the same instants, in seconds since 1970.

    `stacked`: the lines are layers of a whole, filled. `told` makes a text of a value, `combine`
    one value of several in the table.
    """

    width: ClassVar[int] = WIDTH
    height: ClassVar[int] = HEIGHT

    name: str
    title: str
    times: Sequence[float]
    lines: Sequence[Line]
    stacked: bool = False
    told: Callable[[float], str] = field(default=as_count)
    combine: Callable[[Sequence[float]], float] = max

    @property
    def top(self) -> float:
        """The value at the upper edge, a round number."""
        sums = self._heights() if self.stacked else [line.values for line in self.lines]
        return round_up(max((value or 0 for values in sums for value in values), default=0))

    @property
    def paths(self) -> list[Path]:
        """The lines in drawing order."""
        heights, floor = self._heights(), [0.0] * len(self.times)
        drawn = []
        for line, upper in zip(self.lines, heights, strict=True):
            if self.stacked:
                d = self._area(upper, floor)
                floor = upper
            else:
                d = self._stroke(line.values)
            drawn.append(Path(line.label, d, self._last(line.values)))
        return drawn

    @property
    def description(self) -> str:
        """What the chart shows, in a sentence."""
        if not self.times:
            return "There is no sample yet."
        told = [self._told_line(line) for line in self.lines]
        return "; ".join(filter(None, told)) + "." if any(told) else "Nothing happened."

    @property
    def rows(self) -> list[tuple[float, list[str]]]:
        """The table: for each span of time its end and a text for each line, oldest first."""
        count = len(self.times)
        size = max(1, math.ceil(count / _ROWS))
        return [
            (self.times[end - 1], [self._combined(line, end - size, end) for line in self.lines])
            for end in sorted(range(count, 0, -size))
        ]

    def _combined(self, line: Line, start: int, end: int) -> str:
        known = [value for value in line.values[max(0, start) : end] if value is not None]
        return self.told(self.combine(known)) if known else "-"

    def _told_line(self, line: Line) -> str:
        known = [value for value in line.values if value is not None]
        if not any(known):
            return ""
        return f"{line.label}: at most {self.told(max(known))}, last {self._last(line.values)}"

    def _last(self, values: Values) -> str:
        known = [value for value in values if value is not None]
        return self.told(known[-1]) if known else "-"

    def _heights(self) -> list[list[float]]:
        """Of each layer the upper edge, on top of those before it."""
        floor, found = [0.0] * len(self.times), []
        for line in self.lines:
            floor = [low + (value or 0) for low, value in zip(floor, line.values, strict=True)]
            found.append(floor)
        return found

    def _x(self, place: int) -> str:
        return _number(WIDTH * place / max(1, len(self.times) - 1))

    def _y(self, value: float) -> str:
        return _number(HEIGHT - HEIGHT * value / self.top)

    def _area(self, upper: Sequence[float], lower: Sequence[float]) -> str:
        if not self.times:
            return ""
        there = [f"{self._x(n)} {self._y(value)}" for n, value in enumerate(upper)]
        back = [f"{self._x(n)} {self._y(value)}" for n, value in enumerate(lower)]
        return f"M{'L'.join(there)}L{'L'.join(reversed(back))}Z"

    def _stroke(self, values: Values) -> str:
        """A path through the known values, with gaps; a lone value is a dot."""
        parts = []
        for start, end in _runs(values):
            points = [f"{self._x(n)} {self._y(values[n] or 0)}" for n in range(start, end)]
            parts.append(f"M{'L'.join(points)}" + ("h.01" if len(points) == 1 else ""))
        return "".join(parts)


def _runs(values: Values) -> Iterator[tuple[int, int]]:
    """Where known values begin and end."""
    edges = [n for n, pair in enumerate(pairwise([None, *values, None])) if _changes(*pair)]
    return zip(edges[::2], edges[1::2], strict=True)


def _changes(before: float | None, after: float | None) -> bool:
    return (before is None) is not (after is None)


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def round_up(value: float) -> float:
    """The next number of 1, 2 or 5 with zeros; at least 1."""
    if value <= 1:
        return 1.0
    scale = 10.0 ** math.floor(math.log10(value))
    return next(step * scale for step in _STEPS if step * scale >= value)


# Which charts there are


def charts_of(series: Series) -> list[Chart]:
    """Draw one series: what was done, what failed, and how long things took."""
    times = [(series.start_ms + (n + 1) * series.step_ms) / 1000 for n in range(len(series.points))]

    def line(label: str, value: Callable[[Point], float | None]) -> Line:
        return Line(label, [None if point is None else value(point) for point in series.points])

    rates = [line(name, partial(_rate, name)) for name in ("accepted", "sent", "dead")]
    ages = [
        line("ready", lambda point: point.oldest_ready_s),
        line("held", lambda point: point.oldest_held_s),
    ]
    delays = [line(f"{share} %", partial(_delay, share)) for share in (50, 95, 99)]
    return [
        Chart("rates", "Callbacks a minute", times, rates),
        Chart(
            "failed", "Failed attempts by reason", times, _failed(series), stacked=True, combine=sum
        ),
        Chart("ages", "Age of the oldest", times, ages, told=age),
        Chart("delays", "Time from enqueue to 2xx", times, delays, told=age),
    ]


def _rate(name: str, point: Point) -> float | None:
    change = point.change
    return None if change is None else change.per_minute(change.totals[name])


def _delay(share: int, point: Point) -> float | None:
    delays = point.change.delays if point.change else None
    return None if delays is None else float(getattr(delays, f"p{share}_s"))


def _failed(series: Series) -> list[Line]:
    """A layer for each of the most frequent reasons, and one for all others."""
    failed = [point.change.failed if point and point.change else None for point in series.points]
    totals = sum(map(Counter, filter(None, failed)), Counter[str]())
    named = [reason for reason, _ in totals.most_common(_LAYERS)]
    lines = [Line(reason, _counts(failed, {reason})) for reason in named]
    if len(totals) > len(named):
        lines.append(Line("others", _counts(failed, totals.keys() - named)))
    return lines or [Line("failed", _counts(failed, ()))]


def _counts(
    failed: Sequence[Mapping[str, int] | None], reasons: Collection[str]
) -> list[float | None]:
    """At each instant, how many failed for one of these reasons."""
    return [
        None if each is None else sum(each.get(reason, 0) for reason in reasons) for each in failed
    ]
