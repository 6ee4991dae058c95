"""Enqueues what was committed to an outbox: each row by its id, then the row is deleted.

A drain that dies between the two leaves the row; the next one enqueues it again, which changes
nothing because Redis knows the id. On PostgreSQL a drain locks the rows of its page, and others
pass over them; on SQLite two drains enqueue the same rows, which again changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
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
                rows = self._page(connection, after, again=again)
                if not rows:
                    return
                drained = self._drain(connection, rows)
                connection.commit()
            yield drained
            if drained.stopped_by:
                return
            after = rows[-1].position

    def _page(self, connection: Connection, after: int, *, again: bool) -> Sequence[Row]:
        """Read the next rows; on PostgreSQL also lock them, passing over locked ones."""
        c = self._rows.c
        rows = connection.execute(
            select(c.position, c.id, c.item, c.created_at, clock() - c.created_at)
            .where(c.position > after, or_(c.problem.is_(None), literal(again)))
            .order_by(c.position)
            .limit(PAGE)
            .with_for_update(skip_locked=True)
        )
        page = [Row(*row) for row in rows]
        if connection.dialect.name == "sqlite":
            connection.commit()  # its lock would keep the application from writing
        return page

    def _drain(self, connection: Connection, rows: Sequence[Row]) -> Drained:
        good: list[tuple[Row, Item]] = []
        bad: list[dict[str, object]] = []
        for row in rows:
            try:
                good.append((row, item_of(self._parts, row)))
            except InvalidCallback as error:
                bad.append({"at": row.position, "problem": str(error)})
                self._tell(row, f"is set aside: {error}")
        drained = Drained(set_aside=len(bad))
        results = self._store([item for _, item in good])
        done: list[int] = []
        for (row, _), result in zip(good, results, strict=True):
            if isinstance(result, Stored):
                done.append(row.position)
                drained.enqueued += result.accepted
                drained.known += not result.accepted
            else:
                self._leave(drained, row, result)
        position = self._rows.c.position
        if done:
            connection.execute(delete(self._rows).where(position.in_(done)))
        if bad:
            connection.execute(update(self._rows).where(position == bindparam("at")), bad)
        return drained

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
