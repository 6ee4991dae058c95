"""Rows of the outbox: adds one, and reads one back; imports no database.

position    the order in which they were added
id          the callback's id
item        the other parameters of `enqueue`, as a JSON object
created_at  seconds since 1970 by the database's clock
problem     why it could not be enqueued; null for those that wait
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from callbacks import aio, api
from callbacks.delivery.callback import AICallback
from callbacks.model import InvalidCallback, Item
from callbacks.runtime import Runtime, runtime
from callbacks.when import Moment, read_when

#: The name of the table, unless another one is given.
TABLE: Final = "callbacks_outbox"
_NAME: Final = re.compile(r"[A-Za-z_]\w{0,62}(?:\.[A-Za-z_]\w{0,62})?", re.ASCII)
#: A known id changes nothing, unless its row was set aside: then this one replaces it.
_INSERT: Final = """\
INSERT INTO {table} (id, item) VALUES ({id}, {item})
ON CONFLICT (id) DO UPDATE
SET item = excluded.item, created_at = excluded.created_at, problem = NULL
WHERE {name}.problem IS NOT NULL"""
#: The life of what has expired when it is enqueued: it dies at once, and is seen to.
_NO_LIFE_S: Final = 0.001


def add(
    where: Any,
    callback_url: str,
    data: Any,
    *,
    event: str = "callback",
    id: str | None = None,
    environment: str | None = None,
    headers: Mapping[str, str] | None = None,
    expires_in: float | Moment | None = None,
    delay: float | Moment | None = None,
    lane: str | None = None,
    into: str = TABLE,
) -> str:
    """Write a callback into the outbox, in the current transaction; returns its id.

    `where`: SQLAlchemy's `Session` or `Connection`, Django's `connection`, or a connection of
    `sqlite3`, `psycopg` or another DB-API driver. `into` is the name of the table, with its schema
    if need be. The other parameters are those of `enqueue`; `delay` and `expires_in` count from
    now.

    An id that is in the outbox already is not added again. Raises `InvalidCallback`,
    `SettingsError`, whatever the database raises, and TypeError for a `where` of another kind.
    """
    name = checked_name(into)
    if inspect.iscoroutinefunction(getattr(where, "execute", None)):
        raise TypeError(f"where: is a {type(where).__name__}; `await outbox.aadd(...)` takes it")
    if not (hasattr(where, "cursor") or hasattr(where, "execute")):
        raise TypeError(f"where: is a {type(where).__name__}; expected a session or connection")
    added, callback, row = _frozen(
        callback_url=callback_url,
        data=data,
        event=event,
        id=id,
        environment=environment,
        headers=headers,
        expires_in=expires_in,
        delay=delay,
        lane=lane,
    )
    api.check_signable(callback)
    if hasattr(where, "cursor"):
        cursor = where.cursor()
        try:
            cursor.execute(_insert(name, _mark_of(where)), tuple(row.values()))
        finally:
            cursor.close()
    else:
        _execute(where, name, row)
    return added.id


async def aadd(
    where: Any,
    callback_url: str,
    data: Any,
    *,
    event: str = "callback",
    id: str | None = None,
    environment: str | None = None,
    headers: Mapping[str, str] | None = None,
    expires_in: float | Moment | None = None,
    delay: float | Moment | None = None,
    lane: str | None = None,
    into: str = TABLE,
) -> str:
    """Do what `add` does, with SQLAlchemy's `AsyncSession` or `AsyncConnection`, or psycopg's."""
    name = checked_name(into)
    if not inspect.iscoroutinefunction(getattr(where, "execute", None)):
        expected = "AsyncSession or AsyncConnection"
        raise TypeError(f"where: is a {type(where).__name__}; expected {expected}")
    added, callback, row = _frozen(
        callback_url=callback_url,
        data=data,
        event=event,
        id=id,
        environment=environment,
        headers=headers,
        expires_in=expires_in,
        delay=delay,
        lane=lane,
    )
    await aio.check_signable(callback)
    if hasattr(where, "cursor"):
        await where.execute(_insert(name, _mark_of(where)), tuple(row.values()))
    else:
        await _execute(where, name, row)
    return added.id


def _execute(where: Any, name: str, row: Mapping[str, str]) -> Any:
    """Call the `execute` of one of SQLAlchemy's objects."""
    from sqlalchemy import text  # noqa: PLC0415 - of an extra

    return where.execute(text(_insert(name, ":{}")), row)


def _insert(name: str, mark: str) -> str:
    return _INSERT.format(
        table=name, name=name.rpartition(".")[2], id=mark.format("id"), item=mark.format("item")
    )


def _mark_of(connection: object) -> str:
    """How the driver of a DB-API connection writes a parameter; Django's always do as most do."""
    driver = sys.modules.get(type(connection).__module__.partition(".")[0])
    return "?" if getattr(driver, "paramstyle", "") == "qmark" else "%s"


def checked_name(name: str) -> str:
    """Return the name of a table if it is one; it becomes part of SQL."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"into: is {name!r}; expected a table's name, with a schema if need be")
    return name


def _frozen(**given: Any) -> tuple[Item, AICallback, dict[str, str]]:
    """Check the parameters of `enqueue`; returns a row's `id` and `item`, too.

    What JSON does not hold is stored as it will be sent, and times as seconds from now.
    """
    added, callback = api.freeze(runtime(), now=datetime.now(UTC), **given)
    request, timed = callback.request, given["expires_in"] is not None
    item = {
        "callback_url": given["callback_url"],
        "data": json.loads(request.body)["data"],
        "event": given["event"],
        "environment": request.environment,
        "headers": dict(request.headers) or None,
        "expires_in": added.life_ms / 1_000 if timed else None,
        "delay": added.delay_ms / 1_000 or None,
        "lane": given["lane"],
    }
    kept = {name: value for name, value in item.items() if value is not None or name == "data"}
    return added, callback, {"id": added.id, "item": json.dumps(kept)}


@dataclass(slots=True)
class Drained:
    """What was done. `known`: Redis had the id already; `left`: they wait for the next pass."""

    enqueued: int = 0
    known: int = 0
    set_aside: int = 0
    left: int = 0
    #: Why the rest has to wait, if it does.
    stopped_by: Exception | None = None

    def add(self, other: Drained) -> None:
        """Add what another one counted."""
        self.enqueued += other.enqueued
        self.known += other.known
        self.set_aside += other.set_aside
        self.left += other.left
        self.stopped_by = self.stopped_by or other.stopped_by

    @property
    def counts(self) -> dict[str, int]:
        """The numbers by name."""
        return {name: getattr(self, name) for name in ("enqueued", "known", "set_aside", "left")}

    def __str__(self) -> str:
        return (
            f"{self.enqueued:,} enqueued, {self.known:,} already known,"
            f" {self.set_aside:,} set aside, {self.left:,} left"
        )


@dataclass(frozen=True, slots=True)
class Row:
    """One row that waits. `age_s`: how long since `created_at`, by the database's clock."""

    position: int
    id: str
    item: str
    created_at: float
    age_s: float


def item_of(parts: Runtime, row: Row) -> Item:
    """Check and freeze a row, with the time of its creation; raises `InvalidCallback`."""
    try:
        given = json.loads(row.item)
    except (ValueError, RecursionError) as error:
        raise InvalidCallback("item", f"is not JSON: {error}") from None
    given = api.parameters(given)
    if "id" in given:
        raise InvalidCallback("item", "has an id, which has a column of its own")
    try:
        created = datetime.fromtimestamp(row.created_at, UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise InvalidCallback("created_at", f"is no time: {error}") from None
    return api.prepare(parts, given | _times(given, row) | {"id": row.id}, created)


def _times(given: Mapping[str, Any], row: Row) -> dict[str, float]:
    """What is left of `delay` and `expires_in`; a wrong value is left to be refused."""
    left = {}
    for name, least in (("delay", 0.0), ("expires_in", _NO_LIFE_S)):
        value = given.get(name)
        if isinstance(value, str):
            with suppress(ValueError):
                value = read_when(value).ahead(row.created_at)
        if isinstance(value, int | float) and value > least:
            left[name] = max(least, value - max(0, row.age_s))
    return left
