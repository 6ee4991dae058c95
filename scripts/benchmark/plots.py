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
from scripts.benchmark.processes import ROOT
from scripts.benchmark.timing import Timing

FOLDER: Final = ROOT / "docs"
TABLE: Final = FOLDER / "bench.txt"
_OURS, _OTHERS = "#1f6f8b", "#b8c4cc"


def draw(
    caption: str, drains: Drains, flight: InFlight, growth: Growth, timing: Timing
) -> list[Path]:
    """Write a chart of each thing that was measured; which files."""
    mpl.use("Agg")  # no window
    FOLDER.mkdir(exist_ok=True)
    made = []
    if drains.measured:
        made.append(_drains(caption, drains))
    if flight.measured:
        made.append(_flight(caption, flight))
    if timing.gaps_ms:
        made.append(_gaps(caption, timing))
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


def _gaps(caption: str, timing: Timing) -> Path:
    figure, grid = _figure(len(timing.gaps_ms))
    for axes, (interval_ms, gaps) in zip(grid[0], timing.gaps_ms.items(), strict=True):
        axes.hist(gaps, bins=40, range=(0, 2 * interval_ms), color=_OURS)
        axes.axvline(interval_ms, color="#c0392b", linewidth=1)
        axes.set_xlabel("ms from one receipt to the next")
        _plain(axes, f"Stagger {interval_ms} ms")
    return _save(figure, "gaps", caption)


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
