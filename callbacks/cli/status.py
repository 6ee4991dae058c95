"""`callbacks status`: everything at one instant, once or each second."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from time import sleep
from typing import Final

import click
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from callbacks.batcher.inspector import TOTALS, Inspector
from callbacks.batcher.journal import Act, told
from callbacks.cli.command import console, json_option, parts, print_json, table
from callbacks.monitor.snapshot import Snapshot, facts, take
from callbacks.monitor.trouble import WORST
from callbacks.runtime import Runtime
from callbacks.text import counted, moment, printable

_WATCH_S: Final = 1.0
_STYLES: Final = {"ok": "green", "paused": "yellow", "behind": "yellow"}


def render(shown: Snapshot, places: Sequence[int]) -> Group:
    """The snapshot as tables; `places` are the threads or greenlets of each worker process."""
    rows = Table.grid(padding=(0, 2))
    style = _STYLES.get(shown.health.word, "red")
    rows.add_row("health", Text(str(shown.health), style=style))
    for name, fact in facts(shown):
        rows.add_row(name, fact)
    rows.add_row("workers", _workers(places))
    if shown.overview.paused_by:
        rows.add_row("paused", printable(_paused(shown.overview.paused_by)))
    for each in shown.trouble[:WORST]:
        rows.add_row("worst", Text(printable(str(each)), style="yellow"))
    counts = table("", "total", "last minute", right=("total", "last minute"))
    for name in TOTALS:
        o = shown.overview
        counts.add_row(name, f"{o.totals[name]:,}", f"{o.per_minute.get(name, 0):,}")
    return Group(rows, Text(), counts)


def _workers(places: Sequence[int]) -> str:
    if not places:
        return "none running (dramatiq callbacks)"
    return f"{counted(len(places), 'process', 'processes')}, {sum(places):,} threads or greenlets"


def _paused(act: Act) -> str:
    return f"since {moment(act.at_ms / 1000)} {told(act)}".strip() + "; callbacks resume"


def _look(found: Runtime) -> Group:
    shown = take(found.batcher)
    return render(shown, Inspector(found.batcher.scripts).worker_places(shown.overview.now_ms))


@click.command()
@click.option("--watch", is_flag=True, help="Refresh every second until interrupted.")
@json_option
def status(watch: bool, as_json: bool) -> None:
    """Show sizes, totals, rates and overall health.

    Ages and intervals are in seconds; rates cover the last minute.
    """
    found = parts()
    if watch:
        _watch(found, as_json)
    elif as_json:
        print_json(take(found.batcher).document())
    else:
        console().print(_look(found))


def _watch(found: Runtime, as_json: bool) -> None:
    """Refresh a terminal; in a pipe, print one line or JSON document per second."""
    screen = console()
    try:
        if as_json:
            _each_second(lambda: click.echo(json.dumps(take(found.batcher).document())))
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
