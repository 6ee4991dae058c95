"""`callbacks dead`: list, replay or purge dead letters, page by page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, TypeVar

import click

from callbacks import admin
from callbacks.cli.arguments import DEAD_ID
from callbacks.cli.command import (
    Failure,
    cursor_option,
    filter_options,
    json_option,
    limit_option,
    parts,
    print_json,
    progress,
    say,
)
from callbacks.cli.listing import print_page, up_to
from callbacks.model import State
from callbacks.text import many, with_lanes

_SHOWN: Final = 50
_FILTERS: Final = "--destination, --reason, --status, --since, --until"

_F = TypeVar("_F", bound=Callable[..., Any])


def _filters(function: _F) -> _F:
    """Add the filter options to a command."""
    function = click.option(
        "--dry-run", is_flag=True, help="Change nothing; print how many would change."
    )(function)
    function = click.option("--all", "every", is_flag=True, help="All dead letters.")(function)
    function = limit_option()(function)
    function = filter_options(function)
    return click.option(
        "--id", "ids", type=DEAD_ID, multiple=True, help="Only this id; may be repeated."
    )(function)


def _changing(function: _F) -> _F:
    """Add the options of a command that changes dead letters."""
    function = json_option(function)
    return click.option("--why", default="", metavar="TEXT", help="Why, for callbacks log.")(
        function
    )


@click.group()
def dead() -> None:
    """List, replay or purge dead letters."""


@dead.command("show")
@_filters
@cursor_option
@json_option
def dead_show(
    *,
    ids: tuple[str, ...],
    every: bool,
    limit: int | None,
    cursor: str | None,
    dry_run: bool,
    as_json: bool,
    **given: Any,
) -> None:
    """List dead letters, the newest first.

    Shows 50 unless --limit, --all or --id is given. With --json they are one array.
    """
    del dry_run  # it never changes anything
    parts()
    _check_all(ids, every, given)
    if limit is None and not every and not ids:
        limit = _SHOWN
    read = partial(admin.list, State.DEAD, ids=ids, **given)
    page = read(limit=limit or len(ids)) if ids else up_to(read, limit, cursor)
    print_page(page, limit, given["destination"], as_json)
    if ids:
        known = {one.id for one in admin.list(State.DEAD, ids=ids, limit=len(ids))}
        _complain([id for id in ids if id not in known])


def _check_all(ids: Sequence[str], every: bool, given: dict[str, Any]) -> None:
    if every and (ids or any(given.values())):
        raise click.UsageError(f"--all cannot be combined with --id or {_FILTERS}")


@dead.command("replay")
@_filters
@_changing
def dead_replay(as_json: bool, **given: Any) -> None:
    """Put dead letters back into the queue, with their ids.

    Those that died first come first. They get new retries and a new end of life, and are sent at
    the usual pace.
    """
    _change("replayed", admin.replay, as_json, **given)


@dead.command("purge")
@_filters
@_changing
def dead_purge(as_json: bool, **given: Any) -> None:
    """Delete dead letters for good, with their requests."""
    _change("purged", admin.purge, as_json, **given)


def _change(
    verb: str,
    change: Callable[..., admin.DeadLetters],
    as_json: bool,
    *,
    ids: tuple[str, ...],
    every: bool,
    dry_run: bool,
    limit: int | None,
    why: str,
    **given: Any,
) -> None:
    """Change the selected dead letters with a progress bar, and print how many there were."""
    parts()
    _check_all(ids, every, given)
    if not (every or ids or any(given.values())):
        raise click.UsageError(f"select dead letters with --id, {_FILTERS} or --all")
    with progress() as bar:
        task = bar.add_task(verb, total=None)
        done = change(
            ids=ids,
            all=every,
            limit=limit,
            dry_run=dry_run,
            progress=lambda count, total: bar.update(task, completed=count, total=total),
            why=why,
            **given,
        )
    if as_json:
        counts = {verb: 0 if dry_run else done.count, "would_be": done.count if dry_run else None}
        print_json(counts | {"lanes": done.lanes, "paths": done.paths})
    else:
        say(_outcome(done, verb))
    _complain(done.not_dead)


def _outcome(done: admin.DeadLetters, verb: str) -> str:
    line = f"{many(done.count, 'dead letter')} {'would be ' if done.dry_run else ''}{verb}"
    if done.destination and (done.lanes or done.paths):
        line += f", of {with_lanes(done.destination, done.lanes, done.paths)}"
    return line


def _complain(strangers: Sequence[str]) -> None:
    if strangers:
        names = ", ".join(strangers[:5]) + (", ..." if len(strangers) > 5 else "")
        raise Failure(f"not dead letters: {names}")
