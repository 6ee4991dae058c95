"""`callbacks dead`: list, replay or purge dead letters, page by page."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, Final, TypeVar

import click

from callbacks.batcher.inspector import Inspector, Status
from callbacks.batcher.journal import entry_of
from callbacks.batcher.paging import pages
from callbacks.cli.arguments import ID, TIME, When
from callbacks.cli.command import (
    REASON,
    Failure,
    in_scope,
    json_option,
    parts,
    print_json,
    progress,
    say,
    who,
)
from callbacks.cli.listing import first, print_statuses
from callbacks.model import State
from callbacks.request.urls import Scope
from callbacks.runtime import Runtime
from callbacks.text import many, moment

PAGE: Final = 200
_ACTS: Final = {"replayed": "replay", "purged": "purge"}
#: Changed per script call: a millisecond or two, in which Redis does nothing else.
STEP: Final = 50
_SHOWN: Final = 50

_F = TypeVar("_F", bound=Callable[..., Any])


def _since(_context: click.Context, _parameter: click.Parameter, when: When | None) -> int | None:
    """The instant as ms since 1970."""
    return None if when is None else int(when.ago(time.time()) * 1000)


@dataclass(frozen=True, slots=True)
class Filter:
    """Which dead letters are selected; times in ms."""

    ids: tuple[str, ...] = ()
    scope: Scope | None = None
    reason: str | None = None
    since_ms: int | None = None

    @property
    def empty(self) -> bool:
        """Whether it selects all."""
        return self == Filter()

    @property
    def words(self) -> str:
        """What it selects, for the journal."""
        few = ", ".join(self.ids[:5]) + (", ..." if len(self.ids) > 5 else "")
        since = None if self.since_ms is None else moment(self.since_ms / 1000)
        parts = {
            "id": few,
            "destination": self.scope and self.scope.name,
            "reason": self.reason,
            "since": since,
        }
        return " ".join(f"{name}={value}" for name, value in parts.items() if value) or "all"

    def fits(self, status: Status) -> bool:
        """Whether it selects a callback."""
        return (
            status.state is State.DEAD
            and (self.scope is None or self.scope.covers(status.destination))
            and self.reason in (None, status.reason)
            and (self.since_ms is None or (status.ended_at or 0) * 1000 >= self.since_ms)
        )


def _filters(function: _F) -> _F:
    """Add the filter options to a command."""
    for option in reversed(
        (
            click.option(
                "--id", "ids", type=ID, multiple=True, help="Only this id; may be repeated."
            ),
            click.option(
                "--destination",
                "scope",
                callback=in_scope,
                help="Only this destination; a host includes its lanes.",
            ),
            click.option("--reason", type=REASON, help="Only this reason."),
            click.option(
                "--since",
                "since_ms",
                type=TIME,
                metavar="SECONDS|AGE|TIME",
                callback=_since,
                help="Only those that died since then: seconds (90), an age (2h), or a time.",
            ),
            click.option("--limit", type=click.IntRange(min=1), help="At most N.", metavar="N"),
            click.option("--all", "every", is_flag=True, help="All dead letters."),
            click.option(
                "--dry-run", is_flag=True, help="Change nothing; print how many would change."
            ),
        )
    ):
        function = option(function)
    return json_option(function)


# Pages


def dead_pages(found: Runtime, since_ms: int | None) -> Iterator[list[str]]:
    """Page through the current dead letters by time of death, although some are removed meanwhile.

    It continues from the last time it saw, not from a rank, so that removals make it skip
    nothing; one that is replayed and dies again is not returned twice.
    """
    key = found.batcher.scripts.keys.of("dead")
    seconds, micros = found.client.time()
    until = seconds * 1000 + micros // 1000
    cursor: float = float("-inf") if since_ms is None else since_ms
    seen: set[bytes] = set()  # those that died at `cursor`
    while True:
        rows: Any = found.client.zrange(
            key, cursor, until, byscore=True, offset=0, num=PAGE + len(seen), withscores=True
        )
        fresh = [(id, died) for id, died in rows if id not in seen]
        if not fresh:
            return
        last = fresh[-1][1]
        seen = {id for id, died in fresh if died == last} | (seen if last == cursor else set())
        cursor = last
        yield [id.decode() for id, _ in fresh]


def matching(found: Runtime, wanted: Filter) -> Iterator[Status]:
    """Iterate over the selected dead letters, oldest first, or in the order of the given ids."""
    inspector = Inspector(found.batcher.scripts)
    ids = list(dict.fromkeys(wanted.ids))
    source = pages(ids, PAGE) if ids else dead_pages(found, wanted.since_ms)
    for page in source:
        yield from (status for status in inspector.find_many(page) if wanted.fits(status))


# Commands


@click.group()
def dead() -> None:
    """List, replay or purge dead letters."""


@dead.command("show")
@_filters
def dead_show(limit: int | None, every: bool, dry_run: bool, as_json: bool, **given: Any) -> None:
    """List dead letters, oldest first.

    Shows 50 unless --limit, --all or --id is given. With --json they are one array.
    """
    del dry_run  # it never changes anything
    wanted = _wanted(given, every=every, needed=False)
    found = parts()
    if limit is None and not every and not wanted.ids:
        limit = _SHOWN
    print_statuses(first(matching(found, wanted), limit), as_json)
    _complain(_strangers(found, wanted))


@dead.command("replay")
@_filters
def dead_replay(every: bool, **given: Any) -> None:
    """Put dead letters back into the queue, with their ids.

    They get new retries and a new end of life, and are sent at the usual pace.
    """
    found = parts()
    wake = partial(found.messages.check, 0)
    _work(found, "replayed", found.batcher.replay, after=wake, every=every, **given)


@dead.command("purge")
@_filters
def dead_purge(every: bool, **given: Any) -> None:
    """Delete dead letters for good, with their requests."""
    found = parts()
    _work(found, "purged", found.batcher.purge, every=every, **given)


def _wanted(given: dict[str, Any], *, every: bool, needed: bool) -> Filter:
    """Build the filter from the options; if it is `needed`, one of them has to be given."""
    wanted = Filter(**given)
    if every and not wanted.empty:
        raise click.UsageError(
            "--all cannot be combined with --id, --destination, --reason or --since"
        )
    if needed and wanted.empty and not every:
        raise click.UsageError(
            "select dead letters with --id, --destination, --reason, --since or --all"
        )
    return wanted


def _work(
    found: Runtime,
    verb: str,
    change: Callable[[Sequence[str]], int],
    *,
    after: Callable[[], object] = lambda: None,
    every: bool,
    limit: int | None,
    dry_run: bool,
    as_json: bool,
    **given: Any,
) -> None:
    """Change the selected dead letters page by page, and print how many there were.

    `after` is called even after a failure, because some may have been changed before it.
    """
    wanted = _wanted(given, every=every, needed=True)
    strangers = _strangers(found, wanted)
    ids = (status.id for status in islice(matching(found, wanted), limit))
    total = _expected(found, wanted, limit)
    if dry_run:
        done = sum(1 for _ in ids)
    else:
        done = 0

        def counted(page: Sequence[str]) -> int:
            nonlocal done
            some = change(page)
            done += some
            return some

        try:
            _change(ids, counted, verb, total)
        finally:
            after()
            if done:
                entry = entry_of(_ACTS[verb], wanted.words, who=who(), count=done)
                found.batcher.journal(entry)
    if as_json:
        print_json({verb: 0 if dry_run else done, "would_be": done if dry_run else None})
    else:
        say(f"{many(done, 'dead letter')} {'would be ' if dry_run else ''}{verb}")
    _complain(strangers)


def _change(
    ids: Iterator[str], change: Callable[[Sequence[str]], int], verb: str, total: int | None
) -> None:
    """Change them page by page, with a progress bar."""
    done = 0
    with progress() as bar:
        task = bar.add_task(verb, total=total)
        for page in pages(ids, STEP):
            done += change(page)
            bar.update(task, completed=done)


def _expected(found: Runtime, wanted: Filter, limit: int | None) -> int | None:
    """An upper bound of how many will be changed; None if unknown before reading them all."""
    if wanted.scope or wanted.reason:
        return limit
    key, since = found.batcher.scripts.keys.of("dead"), wanted.since_ms
    count = len(wanted.ids) or int(found.client.zcount(key, since or "-inf", "+inf"))
    return min(limit or count, count)


def _strangers(found: Runtime, wanted: Filter) -> list[str]:
    """The given ids that are not dead letters."""
    dead = {status.id for status in matching(found, Filter(ids=wanted.ids))} if wanted.ids else ()
    return [id for id in wanted.ids if id not in dead]


def _complain(strangers: list[str]) -> None:
    if strangers:
        names = ", ".join(strangers[:5]) + (", ..." if len(strangers) > 5 else "")
        raise Failure(f"not dead letters: {names}")
