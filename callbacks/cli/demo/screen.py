"""The demo's output: settings, progress, summary, and logs if it failed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from callbacks.batcher.inspector import Overview
from callbacks.cli.demo.summary import Summary
from callbacks.cli.processes import Processes
from callbacks.units import ms

_LINE_EVERY_S: Final = 2.0
_LOG_LINES: Final = 20


def show_settings(environ: Mapping[str, str], screen: Console) -> None:
    """Print the demo's own settings, but not its secret."""
    screen.print("Settings of this demo:")
    for name, value in environ.items():
        shown = "whsec_... (random)" if name == "CALLBACKS_SECRET" else value
        screen.print(f"  {name}={shown}")
    screen.print()


@contextmanager
def progress(screen: Console, count: int) -> Iterator[Callable[[Overview], None]]:
    """Yield a function that shows progress: a bar on a terminal, else a line now and then."""
    if not screen.is_terminal:
        yield _in_lines(screen)
        return
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TextColumn("{task.description}"), console=screen) as bar:
        task = bar.add_task("", total=count)

        def show(books: Overview) -> None:
            done = books.totals["sent"] + books.totals["dead"]
            bar.update(task, completed=done, description=_state(books))

        yield show


def _in_lines(screen: Console) -> Callable[[Overview], None]:
    began_s = time.monotonic()
    next_s = began_s

    def show(books: Overview) -> None:
        nonlocal next_s
        now_s = time.monotonic()
        done = not books.queued and not books.processing
        if now_s >= next_s or done:
            next_s = now_s + _LINE_EVERY_S
            screen.print(f"{now_s - began_s:5.1f} s  {_state(books)}")
            screen.file.flush()

    return show


def _state(books: Overview) -> str:
    totals = books.totals
    return (
        f"queued {books.queued}, processing {books.processing}, sent {totals['sent']}, "
        f"retried {totals['retried']}, dead {totals['dead']}"
    )


def show_summary(summary: Summary, screen: Console) -> None:
    """Print the summary."""
    grid = Table.grid(padding=(0, 2))
    for name, fact in _facts(summary).items():
        grid.add_row(name, fact)
    screen.print()
    screen.print(grid)


def _facts(summary: Summary) -> dict[str, str]:
    facts = {
        "enqueued": f"{summary.count:,}",
        "delivered": f"{summary.delivered:,}",
        "retried": f"{summary.retried:,} times",
        "dead": f"{summary.dead:,}, for one destination that refuses connections",
        "repeats": f"{summary.repeats:,} delivered more than once",
        "signatures": f"{summary.signed:,} of {summary.requests:,} valid",
        "took": f"{summary.seconds:.1f} s",
    }
    if summary.gaps is not None:
        low, middle, high = map(ms, summary.gaps)
        facts["gaps at the receivers"] = (
            f"{low} ms, {middle} ms, {high} ms (5th, 50th, 95th percentile)"
        )
    facts["audit"] = "the books balance" if not summary.problems else "\n".join(summary.problems)
    facts["receivers"] = "`callbacks receiver` runs one by itself, `callbacks dev` all of this"
    facts["result"] = "\n".join(summary.wrong) or "the numbers add up"
    return facts


def show_logs(processes: Processes, screen: Console) -> None:
    """Print the end of each process's log."""
    for path in processes.logs():
        screen.print(f"The last lines of the {path.stem}:")
        for line in path.read_text("utf-8", "replace").splitlines()[-_LOG_LINES:]:
            screen.print(f"  {line}")
