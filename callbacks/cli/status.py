"""`callbacks status`: everything at one instant, once or each second."""

from __future__ import annotations

import json
from collections.abc import Callable
from time import sleep
from typing import Final

import click
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from callbacks.batcher.inspector import TOTALS
from callbacks.cli.command import console, json_option, parts, print_json, table
from callbacks.monitor.snapshot import Snapshot, facts, take
from callbacks.runtime import Runtime

_WATCH_S: Final = 1.0
_STYLES: Final = {"ok": "green", "paused": "yellow", "behind": "yellow"}


def render(shown: Snapshot) -> Group:
    """The snapshot for people."""
    rows = Table.grid(padding=(0, 2))
    style = _STYLES.get(shown.health.word, "red")
    rows.add_row("health", Text(str(shown.health), style=style))
    for name, fact in facts(shown):
        rows.add_row(name, fact)
    counts = table("", "total", "last minute", right=("total", "last minute"))
    for name in TOTALS:
        o = shown.overview
        counts.add_row(name, f"{o.totals[name]:,}", f"{o.per_minute.get(name, 0):,}")
    return Group(rows, Text(), counts)


@click.command()
@click.option("--watch", is_flag=True, help="Show it anew each second, until interrupted.")
@json_option
def status(watch: bool, as_json: bool) -> None:
    """Show sizes, totals, rates and how the whole is doing.

    Ages and intervals are seconds; rates are those of the last whole minute.
    """
    found = parts()
    if watch:
        _watch(found, as_json)
    elif as_json:
        print_json(take(found.batcher).document())
    else:
        console().print(render(take(found.batcher)))


def _watch(found: Runtime, as_json: bool) -> None:
    """Refresh a terminal; in a pipe, print a line (with --json: a document a line) each second."""
    screen = console()
    try:
        if as_json:
            _each_second(lambda: click.echo(json.dumps(take(found.batcher).document())))
        elif not screen.is_terminal:
            _each_second(lambda: click.echo(take(found.batcher).line()))
        else:
            with Live(render(take(found.batcher)), console=screen, auto_refresh=False) as live:
                _each_second(lambda: live.update(render(take(found.batcher)), refresh=True))
    except KeyboardInterrupt:
        return


def _each_second(show: Callable[[], None]) -> None:
    while True:
        show()
        sleep(_WATCH_S)
