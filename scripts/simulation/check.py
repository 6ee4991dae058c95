"""Holds the model against the real system: the same scenarios in both, figure beside figure."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from callbacks.batcher.routes import shard_of
from callbacks.settings import load_settings
from scripts.benchmark.table import number
from scripts.simulation import real
from scripts.simulation.small import ALL, Small, differences, figures, medians, simulate
from tests.support.processes import load

#: A scenario that differs is run again: a busy machine makes the real system late, not the model.
_TRIES: Final = 2
#: The model is quick, so its figures are medians of so many runs with seeds that follow.
_RUNS: Final = 5


@dataclass(frozen=True, slots=True)
class Compared:
    """One figure of one scenario."""

    scenario: str
    what: str
    model: float
    real: float
    differs: float
    may_differ: float

    @property
    def holds(self) -> bool:
        """Whether the model is near enough."""
        return self.differs <= self.may_differ


def compare(
    small: Small, model: Mapping[str, float], real: Mapping[str, float]
) -> Iterator[Compared]:
    """Compare all figures of a scenario."""
    for name, (differs, may_differ) in differences(small, model, real).items():
        yield Compared(small.name, name, model[name], real[name], differs, may_differ)


def modelled(small: Small, seed: int, host: str, **more: Any) -> dict[str, float]:
    """The figures of the model."""
    shard = _routes(small, host)
    runs = (simulate(small, seed + n, host=host, **more)[0] for n in range(_RUNS))
    return medians([figures(small, trace, shard) for trace in runs])


def _routes(small: Small, host: str) -> Callable[[str], int]:
    """Which shard a lane is in."""
    shards = load_settings(small.variables).shards
    return lambda lane: shard_of(f"{host}#{lane}", shards)


def check(seed: int, say: Callable[[str], None], only: Sequence[str] = ()) -> list[Compared]:
    """Run all scenarios, or those named, in both."""
    found: list[Compared] = []
    compared: list[Compared] = []
    for small in ALL:
        if only and small.name not in only:
            continue
        say(f"{small.name}: {small.what}")
        for _ in range(_TRIES):
            compared = _once(small, seed, say)
            if all(each.holds for each in compared):
                break
        found += compared
    return found


def _once(small: Small, seed: int, say: Callable[[str], None]) -> list[Compared]:
    started = time.monotonic()
    trace, host = real.run(small)
    measured = figures(small, trace, _routes(small, host))
    compared = list(compare(small, modelled(small, seed, host), measured))
    told = "" if all(each.holds for each in compared) else "; they differ"
    say(f"{small.name}: {time.monotonic() - started:.0f} s, load per core {load():.1f}{told}")
    return compared


def lines(found: Sequence[Compared]) -> list[str]:
    """The comparison as text."""
    heads = ("", "model", "real", "differs by", "may by", "")
    rows = [
        (
            f"{each.scenario}: {each.what}",
            *map(number, (each.model, each.real, each.differs, each.may_differ)),
            "" if each.holds else "NO",
        )
        for each in found
    ]
    widths = [max(len(row[n]) for row in (heads, *rows)) for n in range(len(heads))]
    return [
        "  ".join(
            f"{cell:<{width}}" if n == 0 else f"{cell:>{width}}"
            for n, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in (heads, *rows)
    ]
