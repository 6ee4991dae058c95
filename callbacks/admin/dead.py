"""Replays and purges dead letters, step by step: each step holds Redis for a millisecond or two."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Final

from callbacks.admin.filters import (
    check_limit,
    journal_entry,
    to_ids,
    to_reason,
    to_scope,
    to_since_ms,
    to_statuses,
    to_until_ms,
)
from callbacks.admin.values import DeadLetters
from callbacks.batcher.clock import redis_ms
from callbacks.batcher.errors import as_documented
from callbacks.batcher.inspector import Inspector, Status
from callbacks.batcher.listing import Bounds, Filter, walk
from callbacks.batcher.paging import pages
from callbacks.model import InvalidCallback, Reason, State
from callbacks.request.urls import lanes_and_paths
from callbacks.runtime import Runtime, runtime
from callbacks.text import moment
from callbacks.when import Moment

#: Dead letters read at a time.
PAGE: Final = 200
#: Changed per script call.
STEP: Final = 50

#: Told after each step: how many are done, and how many there will be at most (None: not known).
Progress = Callable[[int, int | None], object]


@as_documented()
def replay(
    *,
    ids: Sequence[str] = (),
    destination: str | None = None,
    reason: Reason | str | None = None,
    status: int | str | None = None,
    since: Moment | None = None,
    until: Moment | None = None,
    all: bool = False,
    limit: int | None = None,
    dry_run: bool = False,
    progress: Progress | None = None,
    why: str = "",
    who: str | None = None,
) -> DeadLetters:
    """Put dead letters back into the queue, with their ids: those that died first come first.

    They get new retries and a new end of life, and are sent at the usual pace. They are selected
    by `ids`, `destination`, `reason`, `status`, `since` and `until`, as in `list`, which can be
    combined, or all of them by `all`; `limit`: at most so many. `dry_run` changes nothing and
    counts. It goes in steps of 50, and calls `progress(done, expected)` after each, and where
    nothing fits, after each 200 that it reads; if that raises, it ends there, and what was done
    stays. `why` and `who` are for the journal.

    Raises `InvalidCallback` for bad input, and if nothing is selected.
    """
    parts = runtime()
    wanted = _wanted(
        parts, ids, destination, reason, status=status, since=since, until=until, every=all
    )
    work = _Work(parts, wanted, limit, progress)
    if dry_run:
        return work.count()
    try:
        return work.run("replay", parts.batcher.replay, who=who, why=why)
    finally:
        parts.messages.check(0)  # even after a failure: some may have been replayed before it


@as_documented()
def purge(
    *,
    ids: Sequence[str] = (),
    destination: str | None = None,
    reason: Reason | str | None = None,
    status: int | str | None = None,
    since: Moment | None = None,
    until: Moment | None = None,
    all: bool = False,
    limit: int | None = None,
    dry_run: bool = False,
    progress: Progress | None = None,
    why: str = "",
    who: str | None = None,
) -> DeadLetters:
    """Delete dead letters for good, with their requests. The parameters are those of `replay`."""
    parts = runtime()
    wanted = _wanted(
        parts, ids, destination, reason, status=status, since=since, until=until, every=all
    )
    work = _Work(parts, wanted, limit, progress)
    return work.count() if dry_run else work.run("purge", parts.batcher.purge, who=who, why=why)


@dataclass(frozen=True, slots=True)
class _Selection:
    """Which dead letters are selected: of these ids, if there are any, those that fit."""

    ids: tuple[str, ...]
    wanted: Filter

    @property
    def words(self) -> str:
        """What it selects, for the journal."""
        wanted = self.wanted
        few = ", ".join(self.ids[:5]) + (", ..." if len(self.ids) > 5 else "")
        words = {
            "id": few,
            "destination": wanted.scope and wanted.scope.name,
            "reason": wanted.reason,
            "status": wanted.statuses and _status_words(*wanted.statuses),
            "since": None if wanted.since_ms is None else moment(wanted.since_ms / 1000),
            "until": None if wanted.until_ms is None else moment(wanted.until_ms / 1000),
        }
        return " ".join(f"{name}={word}" for name, word in words.items() if word) or "all"


def _status_words(low: int, high: int) -> str:
    return str(low) if low == high else f"{low // 100}xx"


def _wanted(
    parts: Runtime,
    ids: Sequence[str],
    destination: str | None,
    reason: Reason | str | None,
    *,
    status: int | str | None,
    since: Moment | None,
    until: Moment | None,
    every: bool,
) -> _Selection:
    fits = Filter(
        State.DEAD,
        to_scope(parts, destination),
        to_reason(reason),
        to_since_ms(since),
        to_until_ms(until),
        to_statuses(status),
    )
    wanted = _Selection(to_ids(ids), fits)
    is_all = wanted == _Selection((), Filter(State.DEAD))
    if every and not is_all:
        problem = "is given with ids or another filter; expected only one of both"
        raise InvalidCallback("all", problem)
    if is_all and not every:
        problem = "is not given; expected it, or ids or another filter, to select some"
        raise InvalidCallback("all", problem)
    return wanted


class _Work:
    """One replay or purge."""

    def __init__(
        self, parts: Runtime, wanted: _Selection, limit: int | None, progress: Progress | None
    ) -> None:
        check_limit(limit)
        self._batcher, self._selection, self._limit = parts.batcher, wanted, limit
        self._ids_given, self._wanted = wanted.ids, wanted.wanted
        self._inspector = Inspector(parts.batcher.scripts)
        self._progress = progress or (lambda _done, _expected: None)
        self._others: set[str] = set()  # lanes and paths of the named host
        self._strangers = self._not_dead()
        self._done, self._most = 0, self._expected()

    def count(self) -> DeadLetters:
        """Count what is selected; changes nothing."""
        for page in pages(self._ids(), STEP):
            self._tell(self._done + len(page))
        return self._result(self._done, dry_run=True)

    def run(
        self, act: str, change: Callable[[Sequence[str]], int], *, who: str | None, why: str
    ) -> DeadLetters:
        """Change it step by step; the journal has what was done even if it fails half way."""
        try:
            for page in pages(self._ids(), STEP):
                self._tell(self._done + change(page))
        finally:
            if done := self._done:
                words = self._selection.words
                self._batcher.journal(journal_entry(act, words, who=who, why=why, count=done))
        return self._result(self._done)

    def _tell(self, done: int) -> None:
        self._done = done
        self._progress(done, self._most)

    def _result(self, done: int, *, dry_run: bool = False) -> DeadLetters:
        lanes, paths = lanes_and_paths(self._others)
        return DeadLetters(
            count=done,
            dry_run=dry_run,
            destination=self._wanted.scope.name if self._wanted.scope else None,
            lanes=lanes,
            paths=paths,
            not_dead=self._strangers,
        )

    def _ids(self) -> Iterator[str]:
        if self._wanted.takes_all and not self._ids_given:  # none has to be read to be judged
            yield from islice(chain.from_iterable(self._dead()), self._limit)
            return
        for status in islice(self._selected(), self._limit):
            self._note(status.destination)
            yield status.id

    def _note(self, destination: str) -> None:
        scope = self._wanted.scope
        if scope and scope.lanes and destination != scope.name:
            self._others.add(destination)

    def _selected(self) -> Iterator[Status]:
        """The selected dead letters, those that died first first, or in the order of the ids.

        One that is replayed and dies again meanwhile is not selected again.
        """
        source = pages(self._ids_given, PAGE) if self._ids_given else self._dead()
        for page in source:
            fitting = list(filter(self._wanted.fits, self._inspector.find_many(page)))
            yield from fitting
            if not fitting:
                self._tell(self._done)  # it goes on, although nothing fits

    def _dead(self) -> Iterator[list[str]]:
        now_ms = redis_ms(self._inspector.client)
        low = float("-inf") if self._wanted.since_ms is None else self._wanted.since_ms
        until_ms = self._wanted.until_ms
        bounds = Bounds(low, now_ms if until_ms is None else min(now_ms, until_ms - 1))
        for page in walk(self._inspector, "dead", bounds, size=PAGE):
            yield [place.id for place in page]

    def _not_dead(self) -> tuple[str, ...]:
        """The given ids that are no dead letters."""
        given = self._ids_given
        dead = {
            status.id
            for page in pages(given, PAGE)
            for status in self._inspector.find_many(page)
            if status.state is State.DEAD
        }
        return tuple(id for id in given if id not in dead)

    def _expected(self) -> int | None:
        """An upper bound of how many there are; None if unknown before reading them all."""
        if self._wanted.scope or self._wanted.reason or self._wanted.statuses:
            return self._limit
        wanted = self._wanted
        count = len(self._ids_given) or self._inspector.count_dead(wanted.since_ms, wanted.until_ms)
        return min(self._limit or count, count)
