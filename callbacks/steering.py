"""Pausing and resuming what people name: everything, one destination, or a host with its lanes.

A host may have 100,000 lanes: they are taken in pages, so that no script holds Redis for long.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from callbacks.batcher import Batcher
from callbacks.books import Books
from callbacks.paging import pages
from callbacks.urls import Scope

#: Half a millisecond in one script.
PAGE: Final = 100


@dataclass(frozen=True, slots=True)
class Steered:
    """What was done. `lanes` (and paths) of the host were known; `seen`: anything of it was."""

    lanes: tuple[str, ...] = ()
    seen: bool = True
    in_flight: int = 0
    changed: bool = True


def pause(batcher: Batcher, scope: Scope | None) -> Steered:
    """Stop sending; lanes of a host that come up later are paused with it."""
    if scope is None:
        return Steered(in_flight=batcher.pause())
    books = Books(batcher.scripts)
    seen, in_flight = books.knows(scope.name), batcher.pause(scope.name)
    if not scope.lanes:
        return Steered(seen=seen, in_flight=in_flight)
    batcher.pause(scope.mark)  # first: who comes up from now on is paused from the start
    lanes = tuple(books.lanes(scope))
    in_flight += sum(batcher.withdraw(page) for page in pages(lanes, PAGE))
    return Steered(lanes, seen=seen or bool(lanes), in_flight=in_flight)


def resume(batcher: Batcher, scope: Scope | None) -> Steered:
    """Start sending again; destinations lose their holds, breakers and adapted intervals."""
    if scope is None or not scope.lanes:
        return Steered(changed=batcher.resume(scope.name if scope else None))
    changed = [batcher.resume(name) for name in (scope.mark, scope.name)]
    lanes = tuple(Books(batcher.scripts).lanes(scope))
    changed += [batcher.call_back(page) for page in pages(lanes, PAGE)]
    return Steered(lanes, changed=any(changed))
