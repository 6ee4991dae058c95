"""`callbacks status`: everything at one instant, once or each second."""

from __future__ import annotations

import json
from collections.abc import Callable
from time import sleep
from typing import Final

import click
import redis
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from callbacks import admin
from callbacks.batcher.inspector import TOTALS, Overview
from callbacks.batcher.journal import Act, told
from callbacks.cli.command import (
    Failure,
    console,
    json_option,
    parts,
    print_json,
    print_rows,
    redis_line,
    table,
)
from callbacks.monitor import history
from callbacks.monitor.health import NO_REDIS, no_redis
from callbacks.monitor.history import Series, read_history
from callbacks.monitor.snapshot import Snapshot, facts, summary, take, worker_rows
from callbacks.monitor.trouble import WORST
from callbacks.runtime import Runtime
from callbacks.text import moment, printable

_WATCH_S: Final = 1.0
_STYLES: Final = {
    "ok": "green", "scheduler away": "yellow", "paused": "yellow", "behind": "yellow",
}  # fmt: skip


def render(shown: Snapshot, hour: Series) -> Group:
    """The snapshot as tables, and what happened in the last hour."""
    rows = Table.grid(padding=(0, 2))
    style = _STYLES.get(shown.health.word, "red")
    rows.add_row("health", Text(printable(str(shown.health)), style=style))
    if shown.health.todo:
        rows.add_row("do", shown.health.todo)
    if shown.health.word != "ok":
        rows.add_row("more", shown.health.runbook)
    for name, fact in (*facts(shown), *history.facts(hour)):
        rows.add_row(name, fact)
    if shown.overview.paused_by:
        rows.add_row("paused", printable(_paused(shown.overview.paused_by)))
    for each in shown.trouble[:WORST]:
        rows.add_row("worst", Text(printable(str(each)), style="yellow"))
    rows.add_row("workers", summary(shown.workers))
    running = table("host", "pid", "version", "busy", "running for")
    for row in worker_rows(shown.workers, shown.overview.now_ms):
        running.add_row(*map(printable, row))
    listed = (running, Text()) if shown.workers else ()
    return Group(rows, Text(), *listed, _counts(shown.overview, hour))


def _counts(o: Overview, hour: Series) -> Table:
    columns = ["total", "last minute", *([f"last {hour.span}"] if hour.whole else [])]
    counts = table("", *columns, right=columns)
    for name in TOTALS:
        row = [o.totals[name], o.per_minute.get(name, 0)]
        if hour.whole:
            row.append(hour.whole.totals[name])
        counts.add_row(name, *(f"{count:,}" for count in row))
    return counts


def _paused(act: Act) -> str:
    return f"since {moment(act.at)} {told(act)}".strip() + "; callbacks resume"


def _look(found: Runtime) -> Group:
    return render(take(found.batcher), read_history(found.batcher.scripts).hour)


@click.command()
@click.option("--watch", is_flag=True, help="Refresh every second until interrupted.")
@json_option
def status(watch: bool, as_json: bool) -> None:
    """Show sizes, totals, rates and overall health.

    Ages and intervals are in seconds, instants in RFC 3339; rates cover the last minute and the
    last hour.
    """
    found = parts()
    try:
        if watch:
            _watch(found, as_json)
        elif as_json:
            print_json(admin.document(admin.status()))
        else:
            print_rows(_look(found))
    except redis.RedisError as error:
        if as_json:
            print_json(_unread(error))
        raise Failure(f"{NO_REDIS.word}: {redis_line(error)}") from error


def _unread(error: redis.RedisError) -> dict[str, str]:
    """What is known for programs if Redis cannot be read."""
    health = no_redis(error)
    return {
        "health": health.word,
        "health_reason": health.reason,
        "health_todo": health.todo,
        "health_runbook": health.runbook,
    }


def _watch(found: Runtime, as_json: bool) -> None:
    """Refresh a terminal; in a pipe, print one line or JSON document per second."""
    screen = console()
    try:
        if as_json:
            _each_second(lambda: click.echo(json.dumps(admin.document(admin.status()))))
        elif not screen.is_terminal:
            _each_second(lambda: click.echo(take(found.batcher).line()))
        else:
            with Live(_look(found), console=screen, auto_refresh=False) as live:
                _each_second(lambda: live.update(_look(found), refresh=True))
    except KeyboardInterrupt:
        return


def _each_second(show: Callable[[], None]) -> None:
    while True:
        show()
        sleep(_WATCH_S)
