"""The outbox as a table of SQLAlchemy's, for PostgreSQL and SQLite."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    Engine,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    inspect,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.schema import CreateIndex, CreateTable, ExecutableDDLElement
from sqlalchemy.sql.functions import FunctionElement

from callbacks.outbox.rows import TABLE


class clock(FunctionElement[float]):  # noqa: N801 - as SQLAlchemy's functions
    """The database's clock now, not when the transaction began: seconds since 1970."""

    type = Double()
    inherit_cache = True


@compiles(clock, "postgresql")
def _of_postgresql(*_: Any, **__: Any) -> str:
    return "extract(epoch from clock_timestamp())::double precision"


@compiles(clock, "sqlite")
def _of_sqlite(*_: Any, **__: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


def table(metadata: MetaData, name: str = TABLE) -> Table:
    """Define the outbox as one of the application's tables, for `create_all` and migrations."""
    schema, _, name = name.rpartition(".")
    found = Table(
        name,
        metadata,
        Column("position", BigInteger().with_variant(Integer(), "sqlite"), primary_key=True),
        Column("id", String(128), nullable=False, unique=True),
        Column("item", Text, nullable=False),
        Column("created_at", Double, nullable=False, server_default=clock()),
        Column("problem", Text),
        schema=schema or None,
        sqlite_autoincrement=True,  # a position is never used again
    )
    waiting = found.c.problem.is_(None)
    Index(
        f"{name}_waiting",
        found.c.position,
        postgresql_where=waiting,
        sqlite_where=waiting,
    )
    return found


def statements(engine: Engine, name: str = TABLE) -> list[str]:
    """Return the SQL that creates the outbox, for one kind of database."""
    made = table(MetaData(), name)
    elements: list[ExecutableDDLElement] = [CreateTable(made), *map(CreateIndex, made.indexes)]
    return [str(element.compile(dialect=engine.dialect)).strip() for element in elements]


def create(engine: Engine, name: str = TABLE) -> bool:
    """Create the outbox; False if there is a table of this name already."""
    made = table(MetaData(), name)
    if inspect(engine).has_table(made.name, schema=made.schema):
        return False
    made.create(engine)
    return True
