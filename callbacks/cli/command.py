"""Shared by all commands: the runtime, one-line failures, `--json`, console output."""

from __future__ import annotations

import json
import logging
import sys
import threading
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import IO, Any, ClassVar, Final, TypeVar

import click
import redis
from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Column, Table

from callbacks.batcher.errors import RedisRefused, WrongForm
from callbacks.cli.arguments import DESTINATION, HTTP_STATUS, TIME
from callbacks.log import LOGGER
from callbacks.model import CallbacksError, InvalidCallback, Reason
from callbacks.runtime import Runtime, runtime
from callbacks.text import printable

#: In a pipe nothing is folded or cut.
_PIPE_WIDTH: Final = 100_000

_F = TypeVar("_F", bound=Callable[..., Any])


class Failure(click.ClickException):
    """Ends a command with exit code 1 and one line on stderr."""

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the line."""
        line = " ".join(printable(self.format_message()).split())
        click.echo(f"callbacks: {line}", file=file, err=True)


class WrongWords(Failure):
    """Ends a command with exit code 2: its arguments were wrong."""

    exit_code = 2


class Quiet:
    """Without the duties' log lines: a command itself reports what it did.

    A program may run several at once in its threads, so only the last to end sets back the level.
    """

    _lock: ClassVar = threading.Lock()
    _running: ClassVar = 0
    _level: ClassVar = logging.NOTSET

    def __enter__(self) -> None:
        with Quiet._lock:
            if not Quiet._running:
                Quiet._level = LOGGER.level
            Quiet._running += 1
            LOGGER.setLevel(logging.ERROR)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with Quiet._lock:
            Quiet._running -= 1
            if not Quiet._running:
                LOGGER.setLevel(Quiet._level)


class Commands(click.Group):
    """A group that keeps its commands' order and turns expected errors into one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """List the commands in the order of the documentation."""
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        try:
            with Quiet():
                return super().invoke(ctx)
        except InvalidCallback as error:
            raise WrongWords(str(error)) from error
        except redis.RedisError as error:
            raise Failure(redis_line(error)) from error
        except CallbacksError as error:
            raise Failure(str(error)) from error


def redis_line(error: redis.RedisError) -> str:
    """Describe a Redis error in one line: which server was tried, and what it answered."""
    address = runtime().settings.redis_address
    if isinstance(error, WrongForm):
        return str(error)
    if isinstance(error, RedisRefused):
        return f"Redis at {address} answers: {error}"
    if isinstance(error, redis.ConnectionError | redis.TimeoutError):
        return f"Redis cannot be reached at {address}: {error}"
    return f"Redis at {address} answers: {error}"


def parts() -> Runtime:
    """Return the runtime; prints warnings about the settings on stderr."""
    found = runtime()
    for warning in found.settings.warnings:
        click.echo(f"callbacks: {warning}", err=True)
    return found


# Options and arguments


def json_option(function: _F) -> _F:
    """Add `--json` to a command."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")(
        function
    )


REASON: Final = click.Choice([reason.value for reason in Reason])
_WHEN: Final = "SECONDS|AGE|TIME"


def limit_option(default: int | None = None) -> Callable[[_F], _F]:
    """Add `--limit` to a command that lists something."""
    return click.option(
        "--limit",
        type=click.IntRange(min=1),
        default=default,
        show_default=default is not None,
        help="Show at most N.",
        metavar="N",
    )


def cursor_option(function: _F) -> _F:
    """Add `--cursor` to a command that lists something page by page."""
    return click.option(
        "--cursor", metavar="CURSOR", help="Go on where an earlier page ended; it printed this."
    )(function)


def destination_option(function: _F) -> _F:
    """Add `--destination` to a command that filters."""
    return click.option(
        "--destination", type=DESTINATION, help="Only this destination; a host includes its lanes."
    )(function)


def filter_options(function: _F) -> _F:
    """Add `--destination`, `--reason`, `--status`, `--since` and `--until`, as `admin` has them."""
    for option in (
        click.option(
            "--until", type=TIME, metavar=_WHEN, help="Only those that ended before, as --since."
        ),
        click.option(
            "--since",
            type=TIME,
            metavar=_WHEN,
            help="Only those that ended since then: seconds (90), an age (2h), or a time.",
        ),
        click.option(
            "--status", type=HTTP_STATUS, help="Only this last HTTP status (401), or class (4xx)."
        ),
        click.option("--reason", type=REASON, help="Only this reason."),
        destination_option,
    ):
        function = option(function)
    return function


def reason_option(function: _F) -> _F:
    """Add `--reason` to a command: why a person does this, for the journal."""
    return click.option(
        "--reason", "why", default="", help="Why, for callbacks log.", metavar="TEXT"
    )(function)


def unknown(id: str) -> str:
    """The message for an unknown id."""
    return f"{id} is unknown: it was never accepted, or its record is no longer kept"


# Output


def print_json(document: object) -> None:
    """Print one JSON document, in ASCII only."""
    click.echo(json.dumps(document, indent=2))


def print_json_array(documents: Iterable[object]) -> int:
    """Print one JSON array, one element per line, as they come; returns how many there were."""
    count = 0
    for count, document in enumerate(documents, start=1):
        click.echo(f"{'[' if count == 1 else ','}\n  {json.dumps(document)}", nl=False)
    click.echo("\n]" if count else "[]")
    return count


def say(text: str) -> None:
    """Print one line of text."""
    click.echo(printable(text))


def note(text: str) -> None:
    """Print one line on stderr, beside the actual output."""
    click.echo(printable(text), err=True)


def console(*, err: bool = False) -> Console:
    """A console without markup, so that untrusted text cannot style the output."""
    stream = sys.stderr if err else sys.stdout
    width = None if stream.isatty() else _PIPE_WIDTH
    return Console(file=stream, width=width, markup=False, highlight=False, emoji=False)


def print_rows(*rows: RenderableType) -> None:
    """Print tables and lines; without the blanks that fill up their last column."""
    screen = console()
    with screen.capture() as caught:
        screen.print(*rows, sep="\n")
    for line in caught.get().splitlines():
        click.echo(line.rstrip())


def table(*columns: str, right: Iterable[str] = ()) -> Table:
    """An empty table that folds long text and never cuts it; columns in `right` align right."""
    return Table(
        *(
            Column(name, overflow="fold", justify="right" if name in set(right) else "left")
            for name in columns
        ),
        box=None,
        pad_edge=False,
        padding=(0, 2, 0, 0),
    )


def progress() -> Progress:
    """A progress bar if stderr is a terminal, else nothing."""
    return _progress("{task.description}", MofNCompleteColumn())


def share_of(noun: str) -> Progress:
    """A progress bar if stderr is a terminal, for work whose total is known in other units.

    Each task has a field `count`: how many of the noun are done.
    """
    return _progress("{task.fields[count]:,} " + noun, TaskProgressColumn())


def _progress(text: str, done: ProgressColumn) -> Progress:
    bar = console(err=True)
    return Progress(
        TextColumn(text),
        BarColumn(),
        done,
        TimeElapsedColumn(),
        console=bar,
        transient=True,
        disable=not bar.is_terminal,
    )
