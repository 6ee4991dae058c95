"""An outbox: a table in which callbacks are committed together with the application's own data.

`add` writes a row in the caller's transaction, and `callbacks outbox drain` enqueues what was
committed, by id: so a callback is enqueued if and only if its transaction was committed, whatever
dies in between. Works with PostgreSQL and SQLite. `drain` needs the extra `[sqlalchemy]`;
`add` takes any database connection.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from callbacks.outbox.rows import aadd, add

if TYPE_CHECKING:
    from callbacks.outbox.schema import table

__all__ = ["aadd", "add", "table"]


def __getattr__(name: str) -> Any:
    """Import on first use what needs SQLAlchemy."""
    if name != "table":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from callbacks.outbox.schema import table  # noqa: PLC0415 - of an extra

    return table
