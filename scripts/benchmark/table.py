"""The table: each row is the ratio of two measurements of the same minute, with both figures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Row:
    """One line. `ratio` is `this` / `beside`, None if there is nothing to compare with.

    `spread` is the minimum and maximum of `this`, "" if it was measured once.
    """

    section: str
    what: str
    this: str = ""
    beside: str = ""
    ratio: float | None = None
    spread: str = ""


def number(value: float) -> str:
    """A number, rounded to be easy to read."""
    places = 0 if abs(value) >= 1_000 else 1 if abs(value) >= 10 else 2
    return f"{value:,.{places}f}"


def figure(value: float, unit: str) -> str:
    """A number with its unit."""
    return f"{number(value)} {unit}".rstrip()


def compared(
    section: str, what: str, these: Sequence[float], those: Sequence[float], unit: str
) -> Row:
    """Compare round by round; the ratio is the median of the rounds' ratios."""
    ratio = median(one / other for one, other in zip(these, those, strict=True))
    beside = figure(median(those), unit)
    return Row(section, what, figure(median(these), unit), beside, ratio, _spread(these))


def absolute(section: str, what: str, these: Sequence[float], unit: str) -> Row:
    """A row without comparison: the median of the rounds."""
    return Row(section, what, figure(median(these), unit), spread=_spread(these))


def _spread(values: Sequence[float]) -> str:
    return f"{number(min(values))} to {number(max(values))}" if len(values) > 1 else ""


def percentile(values: Iterable[float], share: float) -> float:
    """The percentile `share` (0 to 1), nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(share * (len(ordered) - 1)))]


def lines(rows: Sequence[Row]) -> list[str]:
    """The rows as text, under a heading for each section."""
    told = [(row.what, _ratio(row), row.this, row.beside, row.spread) for row in rows]
    heads = ("", "ratio", "this", "beside", "this, least to most")
    widths = [max(len(cells[n]) for cells in [heads, *told]) for n in range(len(heads))]
    out: list[str] = [_line(heads, widths)]
    section = ""
    for row, cells in zip(rows, told, strict=True):
        if row.section != section:
            section = row.section
            out += ["", section]
        out.append(_line(cells, widths))
    return out


def _ratio(row: Row) -> str:
    return "" if row.ratio is None else f"{row.ratio:.2f}"


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    what, *figures = cells
    right = (f"{cell:>{width}}" for cell, width in zip(figures, widths[1:], strict=True))
    return "  ".join([f"  {what:<{widths[0]}}", *right]).rstrip()
