"""`callbacks outbox`: makes the table, and enqueues what was committed to it."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click
import redis

from callbacks import log as logs
from callbacks.cli.command import (
    Failure,
    json_option,
    note,
    parts,
    print_json,
    redis_line,
    say,
)
from callbacks.log import log
from callbacks.outbox.rows import TABLE, Drained, Row, checked_name
from callbacks.runtime import Runtime
from callbacks.text import many

if TYPE_CHECKING:
    from sqlalchemy import Engine

_F = TypeVar("_F", bound=Callable[..., Any])


def _name(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    try:
        return checked_name(value)
    except ValueError as error:
        raise click.BadParameter(str(error).removeprefix("into: ")) from None


def _where(function: _F) -> _F:
    """Add the options that tell which outbox."""
    for option in (
        click.option(
            "--table",
            "name",
            default=TABLE,
            show_default=True,
            callback=_name,
            help="The table, with its schema if need be.",
        ),
        click.option(
            "--database",
            "url",
            envvar="DATABASE_URL",
            show_envvar=True,
            required=True,
            metavar="URL",
            help="The application's database: postgresql://... or sqlite:///...",
        ),
    ):
        function = option(function)
    return json_option(function)


@contextmanager
def _engine(url: str) -> Iterator[Engine]:
    if find_spec("sqlalchemy") is None:
        raise Failure("sqlalchemy is not installed; install callbacks with its extra [sqlalchemy]")
    from callbacks.outbox.drain import engine_for  # noqa: PLC0415 - of an extra

    try:
        engine = engine_for(url)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--database") from None
    try:
        yield engine
    finally:
        engine.dispose()


@click.group()
def outbox() -> None:
    """Enqueue what was committed to an outbox table."""


@outbox.command()
@click.option("--sql", "only_sql", is_flag=True, help="Only print the SQL, for a migration.")
@_where
def create(url: str, name: str, only_sql: bool, as_json: bool) -> None:
    """Create the outbox table, unless it exists.

    With SQLAlchemy, callbacks.outbox.table(metadata) defines it beside the application's tables.
    """
    is_new = False
    with _engine(url) as engine:
        from callbacks.outbox import schema  # noqa: PLC0415 - of an extra

        statements = schema.statements(engine, name)
        if not only_sql:
            with _database_errors(name):
                is_new = schema.create(engine, name)
    if as_json:
        print_json({"table": name, "created": is_new, "sql": statements})
    elif only_sql:
        click.echo("\n\n".join(f"{statement};" for statement in statements))
    else:
        say(f"{name} {'created' if is_new else 'exists already'}")


@outbox.command()
@click.option("--watch", is_flag=True, help="Go on until interrupted.")
@click.option(
    "--every",
    type=click.FloatRange(min=0.01),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="With --watch, the pause between two looks.",
)
@click.option("--again", is_flag=True, help="Also rows that were set aside.")
@_where
def drain(url: str, name: str, *, watch: bool, every: float, again: bool, as_json: bool) -> None:
    """Enqueue what was committed to an outbox table.

    Each row is enqueued by its id and then deleted, so that a repeat changes nothing. One that
    cannot be is named on stderr and set aside, with the reason in its column "problem"; this then
    exits with 1. Several may run at the same time.
    """
    found = parts()
    with _engine(url) as engine:
        if watch:
            _Watch(found, engine, name, as_json=as_json).run(every, again=again)
        else:
            _drain(found, engine, name, again=again, as_json=as_json)


def _drain(found: Runtime, engine: Engine, name: str, *, again: bool, as_json: bool) -> None:
    from callbacks.outbox.drain import Drain  # noqa: PLC0415 - of an extra

    def tell(row: Row, why: str) -> None:
        note(f"row {row.position} ({row.id}) {why}")

    total = Drained()
    with _database_errors(name):
        for page in Drain(found, engine, tell=tell, name=name).once(again=again):
            total.add(page)
    if as_json:
        print_json(total.counts)
    else:
        say(str(total))
    if total.stopped_by:
        raise Failure(f"stopped; the rest is still in {name}: {_line(total.stopped_by)}")
    if total.set_aside or total.left:
        raise Failure(f"{many(total.set_aside + total.left, 'row')} not enqueued")


class _Watch:
    """Drains again and again; logs what it does, and each trouble once."""

    def __init__(self, found: Runtime, engine: Engine, name: str, *, as_json: bool) -> None:
        from callbacks.outbox.drain import Drain  # noqa: PLC0415 - of an extra

        logs.configure(found.settings.log_format)
        self._drain = Drain(found, engine, tell=self._tell, name=name)
        self._name, self._as_json = name, as_json
        self._told: set[tuple[int, str]] = set()
        self._telling: set[tuple[int, str]] = set()
        self._trouble: str | None = None

    def run(self, every_s: float, *, again: bool) -> None:
        """Go on until SIGTERM or Ctrl-C."""
        signal.signal(signal.SIGTERM, _end)
        while True:
            trouble = self._once(again=again)
            again = again and trouble is not None
            if trouble and not self._trouble:
                log.warning("outbox_waits", table=self._name, error=trouble)
            if self._trouble and not trouble:
                log.info("outbox_goes_on", table=self._name)
            self._trouble = trouble
            time.sleep(every_s)

    def _once(self, *, again: bool) -> str | None:
        """Make one pass; returns what keeps the rest waiting, if anything does."""
        self._told, self._telling = self._telling, set()
        total = Drained()
        try:
            with _database_errors(self._name):
                for page in self._drain.once(again=again):
                    total.add(page)
        except Failure as error:
            return str(error)
        if not any(total.counts.values()):
            pass
        elif self._as_json:
            click.echo(json.dumps(total.counts))
        else:
            log.info(
                "outbox_drained",
                table=self._name,
                enqueued=total.enqueued,
                known=total.known,
                set_aside=total.set_aside,
                left=total.left,
            )
        return _line(total.stopped_by) if total.stopped_by else None

    def _tell(self, row: Row, why: str) -> None:
        self._telling.add((row.position, why))
        if (row.position, why) not in self._told:
            log.warning("outbox_row", table=self._name, position=row.position, id=row.id, why=why)


def _end(_number: int, _frame: object) -> NoReturn:
    raise SystemExit(0)


def _line(error: Exception) -> str:
    return redis_line(error) if isinstance(error, redis.RedisError) else str(error)


@contextmanager
def _database_errors(name: str) -> Iterator[None]:
    """Turn what the database says into one line."""
    from sqlalchemy import exc  # noqa: PLC0415 - of an extra

    try:
        yield
    except exc.SQLAlchemyError as error:
        told = " ".join(str(getattr(error, "orig", None) or error).split())
        raise Failure(f"the database, for the table {name}: {told}") from error
