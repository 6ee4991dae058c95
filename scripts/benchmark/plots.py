"""Charts of one run, into docs/, where its table is written, too."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final

import matplotlib as mpl
from matplotlib import pyplot as plt

from scripts.benchmark.contenders import Contender
from scripts.benchmark.drains import AT_ONCE, SLOWLY, Drains, Measured
from scripts.benchmark.growth import BATCH, DESTINATIONS, Growth
from scripts.benchmark.inflight import MANY, InFlight
from scripts.benchmark.pacing import Pacing
from scripts.benchmark.processes import ROOT

FOLDER: Final = ROOT / "docs"
TABLE: Final = FOLDER / "bench.txt"
_OURS, _OTHERS = "#1f6f8b", "#b8c4cc"
_ALARM, _SHADES = "#c0392b", ("#5aa0b8", _OURS)
#: What of a burst is drawn request by request, s.
_START_S: Final = 2.0


def draw(
    caption: str, drains: Drains, flight: InFlight, growth: Growth, pacing: Pacing
) -> list[Path]:
    """Write a chart of each thing that was measured; which files."""
    mpl.use("Agg")  # no window
    FOLDER.mkdir(exist_ok=True)
    made = []
    if drains.measured:
        made.append(_drains(caption, drains))
    if flight.measured:
        made.append(_flight(caption, flight))
    if pacing.receipts_s:
        made.append(_pacing(caption, pacing))
    if growth.curve:
        made.append(_claims(caption, growth))
    if drains.curve:
        made.append(_processes(caption, drains))
    return made


def _figure(columns: int = 1) -> tuple[Any, Any]:
    return plt.subplots(1, columns, figsize=(min(16.5, 5.5 * columns), 3.6), squeeze=False)


def _save(figure: Any, name: str, caption: str) -> Path:
    figure.tight_layout(rect=(0, 0.05, 1, 1))
    figure.text(0.01, 0.015, caption, fontsize=7, color="#666666")
    path = FOLDER / f"{name}.png"
    figure.savefig(path, dpi=150)
    plt.close(figure)
    return path


def _plain(axes: Any, title: str) -> None:
    axes.set_title(title, fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)


def _drains(caption: str, drains: Drains) -> Path:
    titles = {AT_ONCE: "Receiver answers at once", SLOWLY: "Receiver takes 100 ms"}
    figure, grid = _figure(len(drains.measured))
    for axes, (section, (contenders, measured)) in zip(
        grid[0], drains.measured.items(), strict=True
    ):
        _bars(axes, contenders, measured)
        _plain(axes, titles[section])
    return _save(figure, "drain", caption)


def _bars(axes: Any, contenders: Sequence[Contender], measured: Measured) -> None:
    """The rates of all, the first on top, and ours marked."""
    names = [one.short for one in contenders]
    rates = [median(done.per_s for done in measured[one.name]) for one in contenders]
    colors = [_OURS if name.startswith("callbacks") else _OTHERS for name in names]
    bars = axes.barh(names[::-1], rates[::-1], color=colors[::-1])
    axes.bar_label(bars, fmt="{:,.0f}", padding=3, fontsize=8)
    axes.margins(x=0.12)
    axes.set_xlabel("callbacks a second, no pacing")


def _flight(caption: str, flight: InFlight) -> Path:
    figure, grid = _figure(len(flight.measured))
    for axes, (delay_s, measured) in zip(grid[0], flight.measured.items(), strict=True):
        _bars(axes, flight.contenders, measured)
        _plain(axes, f"Receiver takes {1_000 * delay_s:.0f} ms, {MANY} in flight a process")
    return _save(figure, "inflight", caption)


def _pacing(caption: str, pacing: Pacing) -> Path:
    """A burst over time: how many had come by then, and each of the first two seconds."""
    figure, (whole, start) = plt.subplots(1, 2, figsize=(11, 3.6))
    colors = [_ALARM, *_SHADES]
    for (name, times), color in zip(pacing.receipts_s.items(), colors, strict=True):
        whole.step([0, *times], range(len(times) + 1), where="post", label=name, color=color)
    whole.set_xlabel("seconds since the first")
    whole.set_ylabel("callbacks received")
    whole.legend(frameon=False, fontsize=8)
    _plain(whole, f"A burst of {len(times)} at its receiver")
    rows = [[time for time in times if time <= _START_S] for times in pacing.receipts_s.values()]
    start.eventplot(rows[::-1], colors=colors[::-1], linelengths=0.6, linewidths=1.2)
    told = [
        f"{name}\n{len(row)} of {len(times)}"
        for name, row in zip(pacing.receipts_s, rows, strict=True)
    ]
    start.set_yticks(range(len(rows)), told[::-1], fontsize=8)
    start.set_xlim(-0.05, _START_S)
    start.set_xlabel("seconds since the first; each line is one request")
    start.spines["left"].set_visible(False)
    start.tick_params(axis="y", length=0)
    _plain(start, f"Its first {_START_S:g} seconds")
    return _save(figure, "pacing", caption)


def _claims(caption: str, growth: Growth) -> Path:
    figure, grid = _figure()
    axes = grid[0][0]
    sizes, times = zip(*growth.curve, strict=True)
    axes.plot(sizes, times, marker="o", color=_OURS)
    axes.set_xscale("log")
    axes.set_ylim(0, 1.15 * max(times))
    axes.set_xlabel("callbacks waiting")
    axes.set_ylabel("ms, median")
    _plain(axes, f"A claim of {BATCH}, {DESTINATIONS} destinations")
    return _save(figure, "claim", caption)


def _processes(caption: str, drains: Drains) -> Path:
    figure, grid = _figure()
    axes = grid[0][0]
    processes, rates = zip(*drains.curve, strict=True)
    axes.plot(processes, rates, marker="o", color=_OURS)
    axes.set_xticks(processes)
    axes.set_ylim(0, 1.15 * max(rates))
    axes.set_xlabel("worker processes")
    axes.set_ylabel("callbacks a second")
    _plain(axes, "Drain, answers at once")
    return _save(figure, "processes", caption)
