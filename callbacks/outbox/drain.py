"""Enqueues what was committed to an outbox: each row by its id, then the row is deleted.

A drain that dies between the two leaves the row; the next one enqueues it again, which changes
nothing because Redis knows the id. On PostgreSQL a drain locks the rows of its page, and others
pass over them; on SQLite two drains enqueue the same rows, which again changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Final

import redis
from sqlalchemy import (
    Connection,
    Engine,
    MetaData,
    bindparam,
    create_engine,
    delete,
    literal,
    make_url,
    or_,
    select,
    update,
)

from callbacks import api
from callbacks.model import InvalidCallback, Item, QueueFull, Stored
from callbacks.outbox.rows import TABLE, Drained, Row, item_of
from callbacks.outbox.schema import clock, table
from callbacks.runtime import Runtime

#: Rows per transaction: so many are locked while Redis is asked, and repeated after a crash.
PAGE: Final = 200
#: Drivers for PostgreSQL that do not need an event loop, the best first.
_DRIVERS: Final = ("psycopg", "psycopg2", "pg8000")


def engine_for(url: str) -> Engine:
    """Make an engine for a database's URL, also one of an asyncio driver or Heroku's.

    Raises ValueError, which says what is wrong with it, without the password.
    """
    try:
        parsed = make_url(url.replace("postgres://", "postgresql://", 1))
    except Exception as error:
        raise ValueError("is not a URL of a database, such as postgresql://host/name") from error
    backend = parsed.get_backend_name()
    if backend == "sqlite":
        return create_engine(parsed.set(drivername=backend))
    if backend != "postgresql":
        raise ValueError(f"is of {backend}; expected postgresql or sqlite")
    driver = next((name for name in _DRIVERS if find_spec(name)), None)
    if driver is None:
        raise ValueError("needs a driver for PostgreSQL; pip install 'psycopg[binary]'")
    return create_engine(parsed.set(drivername=f"{backend}+{driver}"), pool_pre_ping=True)


@dataclass(slots=True)
class _Page:
    """What became of the rows of one page, by position: those to delete, and those set aside."""

    counted: Drained = field(default_factory=Drained)
    done: list[int] = field(default_factory=list)
    bad: list[dict[str, object]] = field(default_factory=list)


class Drain:
    """Drains one outbox. `tell` gets each row that is not enqueued, and why."""

    def __init__(
        self,
        parts: Runtime,
        engine: Engine,
        *,
        tell: Callable[[Row, str], object],
        name: str = TABLE,
    ) -> None:
        self._parts, self._engine, self._tell = parts, engine, tell
        self._rows = table(MetaData(), name)

    def once(self, *, again: bool = False) -> Iterator[Drained]:
        """Go through all rows that wait, a transaction per page, and report each page.

        `again`: also those that were set aside. Ends early if Redis is away or full; the last
        report says so. Raises SQLAlchemy's errors.
        """
        after = 0
        while True:
            with self._engine.connect() as connection:
                rows = self._read(connection, after, again=again)
                if not rows:
                    return
                page = self._enqueue(rows)
                self._write(connection, page)
                connection.commit()
            yield page.counted
            if page.counted.stopped_by:
                return
            after = rows[-1].position

    def _read(self, connection: Connection, after: int, *, again: bool) -> Sequence[Row]:
        """Read the next rows; on PostgreSQL also lock them, passing over locked ones."""
        c = self._rows.c
        rows = connection.execute(
            select(c.position, c.id, c.item, c.created_at, clock() - c.created_at)
            .where(c.position > after, or_(c.problem.is_(None), literal(again)))
            .order_by(c.position)
            .limit(PAGE)
            .with_for_update(skip_locked=True)
        )
        read = [Row(*row) for row in rows]
        if connection.dialect.name == "sqlite":
            connection.commit()  # its lock would keep the application from writing
        return read

    def _write(self, connection: Connection, page: _Page) -> None:
        position = self._rows.c.position
        if page.done:
            connection.execute(delete(self._rows).where(position.in_(page.done)))
        if page.bad:
            connection.execute(update(self._rows).where(position == bindparam("at")), page.bad)

    def _enqueue(self, rows: Sequence[Row]) -> _Page:
        page = _Page()
        good: list[tuple[Row, Item]] = []
        for row in rows:
            try:
                good.append((row, item_of(self._parts, row)))
            except InvalidCallback as error:
                self._set_aside(page, row, str(error))
        results = self._store([item for _, item in good])
        for (row, _), result in zip(good, results, strict=True):
            if not isinstance(result, Stored):
                self._leave(page.counted, row, result)
            elif result.conflict:
                self._set_aside(page, row, api.CONFLICT)
            else:
                page.done.append(row.position)
                page.counted.enqueued += result.accepted
                page.counted.known += not result.accepted
        return page

    def _set_aside(self, page: _Page, row: Row, problem: str) -> None:
        page.bad.append({"at": row.position, "problem": problem})
        page.counted.set_aside += 1
        self._tell(row, f"is set aside: {problem}")

    def _store(self, items: Sequence[Item]) -> Sequence[Stored | Exception]:
        try:
            return api.store(self._parts, items, step_size=1)
        except redis.RedisError as error:
            return [error] * len(items)

    def _leave(self, drained: Drained, row: Row, error: Exception) -> None:
        """Leave a row for the next pass, or all if nothing can be enqueued now."""
        drained.left += 1
        if isinstance(error, QueueFull | redis.ConnectionError | redis.TimeoutError):
            drained.stopped_by = error
        else:
            self._tell(row, f"is left for the next time: {error}")
