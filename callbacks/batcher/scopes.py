"""Pauses and resumes what operators name: everything, one destination, or a host with its lanes.

A host may have 100,000 lanes: they are changed page by page, so that no script blocks Redis long.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from callbacks.batcher.inspector import Inspector
from callbacks.batcher.paging import pages
from callbacks.batcher.shards import Shards
from callbacks.batcher.store import Batcher
from callbacks.request.urls import Scope

#: Lanes per script call: half a millisecond.
PAGE: Final = 100


@dataclass(frozen=True, slots=True)
class ScopeResult:
    """What was done. `lanes`: the host's known lanes and paths; `seen`: the scope was known."""

    lanes: tuple[str, ...] = ()
    seen: bool = True
    in_flight: int = 0
    changed: bool = True


def pause(batcher: Batcher | Shards, scope: Scope | None, *, entry: str = "") -> ScopeResult:
    """Stop sending; also pauses lanes of a host that appear later. `entry`: for the journal."""
    if scope is None:
        return ScopeResult(in_flight=batcher.pause(entry=entry))
    inspector = Inspector(batcher.scripts)
    seen, in_flight = inspector.knows(scope.name), batcher.pause(scope.name, entry=entry)
    if not scope.lanes:
        return ScopeResult(seen=seen, in_flight=in_flight)
    batcher.pause(scope.mark, entry=entry)  # first, so that new lanes are paused from the start
    lanes = tuple(inspector.lanes(scope))
    in_flight += sum(batcher.withdraw(page) for page in pages(lanes, PAGE))
    return ScopeResult(lanes, seen=seen or bool(lanes), in_flight=in_flight)


def resume(batcher: Batcher | Shards, scope: Scope | None, *, entry: str = "") -> ScopeResult:
    """Start sending again; clears holds, breakers and adapted intervals of destinations."""
    if scope is None or not scope.lanes:
        return ScopeResult(changed=batcher.resume(scope.name if scope else None, entry=entry))
    changed = [batcher.resume(scope.mark), batcher.resume(scope.name, entry=entry)]
    lanes = tuple(Inspector(batcher.scripts).lanes(scope))
    changed += [batcher.call_back(page) for page in pages(lanes, PAGE)]
    return ScopeResult(lanes, changed=any(changed))
