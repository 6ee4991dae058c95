"""enqueue_on_commit: what a transaction asked for is enqueued if and only if it is committed."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import hypothesis
import pytest
import redis
import sqlalchemy as sa
from hypothesis import strategies as st
from sqlalchemy.ext.asyncio import (
    AsyncSession,
    async_scoped_session,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import Session, scoped_session, sessionmaker
from sqlalchemy.pool import StaticPool

import callbacks
from callbacks import enqueue_on_commit
from callbacks.outbox import schema
from tests.redis.support import key
from tests.redis.test_aio import heartbeat, stopped
from tests.support.processes import clean_environment
from tests.support.server import Server

Environment = Callable[..., None]
URL = "https://customer.example/hooks/ai"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def with_transactions(engine: sa.Engine) -> sa.Engine:
    """Have SQLite's driver leave transactions, and so savepoints, to SQLAlchemy."""

    @sa.event.listens_for(engine, "connect")
    def leave(connection: Any, _record: object) -> None:
        connection.isolation_level = None

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN")

    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE orders (id TEXT PRIMARY KEY)"))
    return engine


@pytest.fixture
def engine() -> Iterator[sa.Engine]:
    made = with_transactions(sa.create_engine("sqlite://", poolclass=StaticPool))
    yield made
    made.dispose()


def enqueued(client: redis.Redis) -> list[str]:
    return sorted(id.decode() for id in client.zrange(key("expiry"), 0, -1))


def order(where: Any, id: str) -> None:
    """Write an order, and ask for its callback."""
    where.execute(sa.text("INSERT INTO orders (id) VALUES (:id)"), {"id": id})
    assert enqueue_on_commit(where, URL, {"order": id}, id=id) == id


def orders(engine: sa.Engine) -> list[str]:
    with engine.connect() as connection:
        return sorted(connection.scalars(sa.text("SELECT id FROM orders")))


@contextmanager
def a_session(engine: sa.Engine) -> Iterator[Any]:
    with Session(engine) as session:
        yield session


@contextmanager
def a_scoped_session(engine: sa.Engine) -> Iterator[Any]:
    scoped = scoped_session(sessionmaker(engine))
    yield scoped
    scoped.remove()


@contextmanager
def a_connection(engine: sa.Engine) -> Iterator[Any]:
    with engine.connect() as connection:
        yield connection


@contextmanager
def a_session_on_a_connection(engine: sa.Engine) -> Iterator[Any]:
    with engine.connect() as connection, Session(connection) as session:
        yield session


WHERE = [a_session, a_scoped_session, a_connection, a_session_on_a_connection]


@pytest.mark.parametrize("where", WHERE)
def test_what_is_committed_is_enqueued_afterwards_and_nothing_else(
    engine: sa.Engine,
    environment: Environment,
    client: redis.Redis,
    where: Callable[[sa.Engine], Any],
) -> None:
    with where(engine) as opened:
        order(opened, "a-1")
        order(opened, "a-2")
        assert enqueued(client) == []
        opened.commit()
        assert enqueued(client) == ["a-1", "a-2"]
        order(opened, "b-1")
        opened.rollback()
        enqueue_on_commit(opened, URL, 1, id="b-2")  # nothing was written, so it is the first word
        opened.rollback()
        order(opened, "c-1")
        opened.commit()
        order(opened, "d-1")
    assert enqueued(client) == ["a-1", "a-2", "c-1"] == orders(engine)


@pytest.mark.parametrize("where", WHERE)
def test_what_a_savepoint_undoes_is_not_enqueued(
    engine: sa.Engine,
    environment: Environment,
    client: redis.Redis,
    where: Callable[[sa.Engine], Any],
) -> None:
    with where(engine) as opened:
        order(opened, "kept-1")
        undone = opened.begin_nested()
        order(opened, "undone-1")
        with opened.begin_nested():
            order(opened, "undone-2")
        undone.rollback()
        with opened.begin_nested():
            order(opened, "kept-2")
        assert enqueued(client) == []
        opened.commit()
    assert enqueued(client) == ["kept-1", "kept-2"] == orders(engine)


MOVES = st.lists(
    st.sampled_from(["order", "savepoint", "release", "back", "commit", "rollback"]), max_size=30
)


@pytest.mark.parametrize("where", [a_session, a_connection, a_session_on_a_connection])
@hypothesis.settings(
    max_examples=60, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture]
)
@hypothesis.given(moves=MOVES)
def test_after_any_transactions_it_is_what_the_database_has(
    environment: Environment,
    client: redis.Redis,
    where: Callable[[sa.Engine], Any],
    moves: list[str],
) -> None:
    client.flushall()
    engine = with_transactions(sa.create_engine("sqlite://", poolclass=StaticPool))
    with where(engine) as opened:
        savepoints: list[Any] = []
        for n, move in enumerate(moves):
            if move == "order":
                order(opened, f"o-{n}")
            elif move == "savepoint":
                savepoints.append(opened.begin_nested())
            elif move in ("commit", "rollback"):
                savepoints.clear()
                getattr(opened, move)()
            elif savepoints:
                end = savepoints.pop()
                (end.commit if move == "release" else end.rollback)()
    assert enqueued(client) == orders(engine)
    engine.dispose()


def test_a_session_within_a_transaction_of_a_connection_waits_for_its_end(
    engine: sa.Engine, environment: Environment, client: redis.Redis
) -> None:
    for ends in ("rollback", "commit"):
        with engine.connect() as connection:
            connection.begin()
            with Session(connection, join_transaction_mode="create_savepoint") as session:
                order(session, ends)
                session.commit()
            assert enqueued(client) == []
            getattr(connection, ends)()
    assert enqueued(client) == ["commit"]


@pytest.mark.parametrize("kind", ["session", "scoped", "connection"])
def test_with_asyncio_it_is_enqueued_when_the_commit_returns(
    environment: Environment, client: redis.Redis, kind: str
) -> None:
    async def main() -> None:
        engine = create_async_engine("sqlite+aiosqlite://", poolclass=StaticPool)
        opened: Any = AsyncSession(engine)
        if kind == "scoped":
            opened = async_scoped_session(async_sessionmaker(engine), asyncio.current_task)
        elif kind == "connection":
            opened = await engine.connect()
        enqueue_on_commit(opened, URL, 1, id="t-1")
        await opened.execute(sa.text("SELECT 1"))
        assert enqueued(client) == []
        await opened.commit()
        assert enqueued(client) == ["t-1"]
        enqueue_on_commit(opened, URL, 1, id="t-2")
        await opened.rollback()
        await opened.commit()
        await opened.close()
        await engine.dispose()

    asyncio.run(main())
    assert enqueued(client) == ["t-1"]


def test_a_commit_does_not_hold_up_the_event_loop_while_redis_hangs(
    environment: Environment, server: Server, client: redis.Redis
) -> None:
    async def main() -> float:
        engine = create_async_engine("sqlite+aiosqlite://", poolclass=StaticPool)
        await callbacks.aenqueue(URL, 0, id="first")
        async with AsyncSession(engine) as session, heartbeat() as gaps:
            await session.execute(sa.text("SELECT 1"))
            enqueue_on_commit(session, URL, 1, id="t-1")
            with stopped(server):
                commit = asyncio.create_task(session.commit())
                await asyncio.sleep(1)
                assert not commit.done()
            await commit
        await engine.dispose()
        return max(gaps)

    assert asyncio.run(main()) < 0.5
    assert enqueued(client) == ["first", "t-1"]


def test_if_redis_is_away_the_commit_stands_and_the_loss_is_logged(
    engine: sa.Engine, environment: Environment, caplog: pytest.LogCaptureFixture
) -> None:
    environment(REDIS_URL="redis://127.0.0.1:1/0")
    with Session(engine) as session, caplog.at_level(logging.ERROR, "callbacks"):
        order(session, "t-1")
        session.commit()
        session.execute(sa.text("SELECT 1"))
    assert orders(engine) == ["t-1"]
    (line,) = caplog.messages
    assert "event=not_enqueued id=t-1 destination=https://customer.example:443 error=" in line


def test_a_full_queue_is_logged_for_what_found_no_room(
    engine: sa.Engine,
    environment: Environment,
    client: redis.Redis,
    caplog: pytest.LogCaptureFixture,
) -> None:
    environment(CALLBACKS_MAX_QUEUED=1)
    with engine.connect() as connection, caplog.at_level(logging.ERROR, "callbacks"):
        order(connection, "t-1")
        order(connection, "t-2")
        connection.commit()
    assert enqueued(client) == ["t-1"]
    assert ["id=t-2" in line for line in caplog.messages] == [True]


def test_a_known_id_with_other_data_is_logged(
    engine: sa.Engine, environment: Environment, caplog: pytest.LogCaptureFixture
) -> None:
    callbacks.enqueue(URL, 1, id="t-1")
    with Session(engine) as session, caplog.at_level(logging.ERROR, "callbacks"):
        enqueue_on_commit(session, URL, 2, id="t-1")
        session.commit()
    (line,) = caplog.messages
    assert "event=not_enqueued id=t-1" in line
    assert "known with another" in line


def test_bad_input_is_refused_before_the_commit(
    engine: sa.Engine, environment: Environment, client: redis.Redis
) -> None:
    environment(CALLBACKS_SECRET_STAGING=SECRET)
    with Session(engine) as session:
        for field, bad in (
            ("callback_url", {"callback_url": "ftp://a.example"}),
            ("data", {"data": object()}),
            ("environment", {"environment": "production"}),
        ):
            with pytest.raises(callbacks.InvalidCallback, match=f"^{field}"):
                enqueue_on_commit(session, **{"callback_url": URL, "data": 1} | bad)
        session.commit()
    assert enqueued(client) == []


@pytest.mark.parametrize("where", [None, 5, sqlite3.connect(":memory:")])
def test_where_nobody_tells_of_a_commit_it_is_refused(
    environment: Environment, where: object
) -> None:
    with pytest.raises(TypeError, match=r"where: is a \w+; expected Django's connection, or"):
        enqueue_on_commit(where, URL, 1)


DJANGO = """
import json, sys
from django.conf import settings
sqlite = {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
settings.configure(DATABASES={"default": sqlite})
import django
django.setup()
from django.db import connection, transaction
from callbacks import enqueue_on_commit, get_status, outbox
URL = "https://customer.example/hooks/ai"

def known(*ids):
    return [id for id in ids if get_status(id)]

with transaction.atomic():
    enqueue_on_commit(connection, URL, 1, id="kept")
    try:
        with transaction.atomic():
            enqueue_on_commit(connection, URL, 1, id="undone")
            raise ZeroDivisionError
    except ZeroDivisionError:
        pass
    assert known("kept", "undone") == []
assert known("kept", "undone") == ["kept"]
enqueue_on_commit(connection, URL, 1, id="at-once")
assert known("at-once") == ["at-once"]

with connection.cursor() as cursor:
    for statement in sys.stdin.read().split(";"):
        cursor.execute(statement)
with transaction.atomic():
    outbox.add(connection, URL, {"percent": "100 %s"}, id="o-1")
try:
    with transaction.atomic():
        outbox.add(connection, URL, 1, id="o-2")
        raise ZeroDivisionError
except ZeroDivisionError:
    pass
with connection.cursor() as cursor:
    cursor.execute("SELECT id, item FROM callbacks_outbox")
    ((id, item),) = cursor.fetchall()
assert (id, json.loads(item)["data"]) == ("o-1", {"percent": "100 %s"})
"""


def test_django_enqueues_on_commit_and_adds_to_the_outbox(redis_url: str) -> None:
    sql = ";".join(schema.statements(sa.create_engine("sqlite://")))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", DJANGO],
        input=sql,
        env=clean_environment(REDIS_URL=redis_url),
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
