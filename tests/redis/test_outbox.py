"""The outbox: what was committed is enqueued, by id; nothing else is, and nothing is lost."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis
import sqlalchemy as sa
from click.testing import CliRunner, Result
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session, scoped_session, sessionmaker

import callbacks
from callbacks import api, outbox
from callbacks.cli.main import main
from callbacks.model import Stored
from callbacks.outbox import drain, schema
from callbacks.outbox.drain import Drain, engine_for
from callbacks.outbox.rows import Drained, Row
from callbacks.request.freeze import unpack
from callbacks.runtime import runtime
from tests.redis.support import key
from tests.support.postgres import Postgres, folder_of_binaries
from tests.support.processes import REPO, Group, clean_environment, until
from tests.support.server import Server, binaries

Environment = Callable[..., None]
URL = "https://customer.example/hooks/ai"


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    folder = folder_of_binaries()
    if folder is None:
        pytest.skip("there is no PostgreSQL on this machine: apt-get install postgresql")
    started = Postgres(folder).start()
    yield started
    started.stop()


@dataclass
class Database:
    """An empty database with an outbox and the application's table `orders`."""

    url: str
    async_url: str
    connect: Callable[[], Any]
    engine: sa.Engine

    @property
    def rows(self) -> list[tuple[Any, ...]]:
        with self.engine.connect() as connection:
            wanted = "SELECT id, problem FROM callbacks_outbox ORDER BY position"
            return [tuple(row) for row in connection.execute(sa.text(wanted))]

    @property
    def orders(self) -> set[str]:
        with self.engine.connect() as connection:
            return set(connection.scalars(sa.text("SELECT id FROM orders")))

    def execute(self, statement: str, **values: object) -> None:
        with self.engine.begin() as connection:
            connection.execute(sa.text(statement), values)


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    if request.param == "sqlite":
        place = f"{tmp_path}/app.db"
        urls = f"sqlite:///{place}", f"sqlite+aiosqlite:///{place}"
        found = Database(*urls, lambda: sqlite3.connect(place), engine_for(urls[0]))
    else:
        where = request.getfixturevalue("postgres").parameters
        urls = f"postgresql:///postgres?{where}", f"postgresql+psycopg:///postgres?{where}"
        words = f"dbname=postgres {where.replace('&', ' ')}"
        found = Database(*urls, lambda: psycopg.connect(words), engine_for(urls[0]))
    for name in ("callbacks_outbox", "orders"):
        found.execute(f"DROP TABLE IF EXISTS {name}")
    schema.create(found.engine)
    found.execute("CREATE TABLE orders (id VARCHAR(40) PRIMARY KEY)")
    yield found
    found.engine.dispose()


def drained(database: Database, *, again: bool = False) -> tuple[Drained, list[str]]:
    """Make one pass; also what it told."""
    total, told = Drained(), []

    def tell(row: Row, why: str) -> None:
        told.append(f"{row.id} {why}")

    for page in Drain(runtime(), database.engine, tell=tell).once(again=again):
        total.add(page)
    return total, told


def command(database: Database, *args: str) -> Result:
    return CliRunner().invoke(main, ["outbox", *args], env={"DATABASE_URL": database.url})


def enqueued(client: redis.Redis) -> list[str]:
    return sorted(id.decode() for id in client.zrange(key("expiry"), 0, -1))


def body_of(client: redis.Redis, id: str) -> Any:
    return json.loads(unpack(client.get(key(f"cb:{id}"))).body)  # type: ignore[arg-type]


# What is added


@contextmanager
def a_session(database: Database) -> Iterator[Any]:
    with Session(database.engine) as session:
        yield session


@contextmanager
def a_scoped_session(database: Database) -> Iterator[Any]:
    scoped = scoped_session(sessionmaker(database.engine))
    yield scoped
    scoped.remove()


@contextmanager
def a_connection(database: Database) -> Iterator[Any]:
    with database.engine.connect() as connection:
        yield connection


@contextmanager
def a_drivers_connection(database: Database) -> Iterator[Any]:
    with closing(database.connect()) as connection:
        yield connection


WHERE = [a_session, a_scoped_session, a_connection, a_drivers_connection]


@pytest.mark.parametrize("where", WHERE)
def test_what_was_committed_is_enqueued_and_nothing_else(
    database: Database,
    environment: Environment,
    client: redis.Redis,
    where: Callable[[Database], Any],
) -> None:
    with where(database) as opened:
        assert outbox.add(opened, URL, 1, id="t-1") == "t-1"
        opened.commit()
        outbox.add(opened, URL, 2, id="t-2")
        opened.rollback()
    assert enqueued(client) == []
    assert drained(database) == (Drained(enqueued=1), [])
    assert enqueued(client) == ["t-1"]
    assert database.rows == []
    assert drained(database) == (Drained(), [])


@pytest.mark.parametrize("commits", [True, False])
def test_an_asyncio_session_adds_too(
    database: Database, environment: Environment, client: redis.Redis, commits: bool
) -> None:
    async def run() -> None:
        engine = create_async_engine(database.async_url)
        async with AsyncSession(engine) as session:
            await outbox.aadd(session, URL, 1, id="t-1")
            await (session.commit() if commits else session.rollback())
        await engine.dispose()

    asyncio.run(run())
    drained(database)
    assert enqueued(client) == ["t-1"] * commits


def test_what_is_enqueued_is_what_was_added(
    database: Database, environment: Environment, client: redis.Redis
) -> None:
    data = {"text": "ü \N{SNOWMAN}\x00", "n": [1, 2.5, None]}
    given: Any = {
        "event": "image.completed",
        "environment": "staging",
        "headers": {"x-tenant": "7"},
        "lane": "tenant 7",
    }
    with Session(database.engine) as session:
        id = outbox.add(session, URL, data, **given)
        session.commit()
    before = time.time()
    drained(database)
    stored = unpack(client.get(key(f"cb:{id}")))  # type: ignore[arg-type]
    assert stored.headers == (("x-tenant", "7"),)
    assert stored.destination == "https://customer.example:443#tenant%207"
    body = json.loads(stored.body)
    created = body.pop("timestamp")
    assert body == {"type": "image.completed", "environment": "staging", "data": data}
    assert created <= time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(before + 1))


def test_an_id_is_found_whichever_shard_it_is_in(
    database: Database, environment: Environment
) -> None:
    environment(CALLBACKS_SHARDS=4)
    with Session(database.engine) as session:
        ids = [outbox.add(session, f"https://{name}.example/", 1) for name in "abcdef"]
        session.commit()
    assert drained(database)[0] == Drained(enqueued=6)
    assert [status and status.state for status in map(callbacks.get_status, ids)] == ["queued"] * 6


def test_bad_input_is_refused_at_once(database: Database, environment: Environment) -> None:
    with Session(database.engine) as session:
        with pytest.raises(callbacks.InvalidCallback, match=r"^callback_url"):
            outbox.add(session, "ftp://a.example/", 1)
        with pytest.raises(callbacks.InvalidCallback, match=r"^data"):
            outbox.add(session, URL, object())
        with pytest.raises(ValueError, match=r"^into: is 'a; DROP'"):
            outbox.add(session, URL, 1, into="a; DROP")
        session.commit()
    assert database.rows == []


@pytest.mark.parametrize("where", [None, 5, "default"])
def test_what_is_no_session_is_refused(environment: Environment, where: object) -> None:
    with pytest.raises(TypeError, match=r"where: is a \w+; expected a session or connection"):
        outbox.add(where, URL, 1)
    with pytest.raises(TypeError, match=r"where: is a \w+; expected AsyncSession"):
        asyncio.run(outbox.aadd(where, URL, 1))


def test_an_asyncio_session_is_not_taken_for_another(
    database: Database, environment: Environment
) -> None:
    session = AsyncSession(create_async_engine(database.async_url))
    with pytest.raises(TypeError, match=r"await outbox\.aadd"):
        outbox.add(session, URL, 1)


def test_an_id_is_added_once(
    database: Database, environment: Environment, client: redis.Redis
) -> None:
    for data in (1, 2):
        with Session(database.engine) as session:
            outbox.add(session, URL, data, id="t-1")
            session.commit()
    assert drained(database)[0] == Drained(enqueued=1)
    assert body_of(client, "t-1")["data"] == 1


def test_times_count_from_when_it_was_added(
    database: Database, environment: Environment, client: redis.Redis
) -> None:
    with Session(database.engine) as session:
        outbox.add(session, URL, 1, id="later", delay=120, expires_in=200)
        outbox.add(session, URL, 1, id="over", expires_in="1m")
        session.commit()
    insert(database, "text", {"callback_url": URL, "data": 1, "delay": "2m"})
    database.execute("UPDATE callbacks_outbox SET created_at = created_at - 100")
    assert drained(database)[0] == Drained(enqueued=3)
    for id in ("later", "text"):
        later = callbacks.get_status(id)
        assert later
        assert later.next_attempt_at is not None
        assert 10 < later.next_attempt_at - time.time() < 21
    ends = {id: client.zscore(key("expiry"), id) or 0 for id in ("later", "over")}
    assert 90 < ends["later"] / 1000 - time.time() < 101
    assert ends["over"] / 1000 <= time.time()  # so it is dead, reason `expired`, with the next look


# What cannot be enqueued


def insert(database: Database, id: str, item: object) -> None:
    text = item if isinstance(item, str) else json.dumps(item)
    database.execute(
        "INSERT INTO callbacks_outbox (id, item) VALUES (:id, :item)", id=id, item=text
    )


BAD = {
    "no-json": "{",
    "no-object": "[]",
    "no-url": {"data": 1},
    "bad-url": {"callback_url": "ftp://a.example/", "data": 1},
    "unknown": {"callback_url": URL, "data": 1, "color": "red"},
    "two-ids": {"callback_url": URL, "data": 1, "id": "t-1"},
    "bad-delay": {"callback_url": URL, "data": 1, "delay": "soon"},
    "bad id": {"callback_url": URL, "data": 1},
}


def test_bad_rows_are_named_and_set_aside_and_hold_up_no_other(
    database: Database, environment: Environment, client: redis.Redis
) -> None:
    for id, item in BAD.items():
        insert(database, id, item)
    insert(database, "good", {"callback_url": URL, "data": 1})
    result = command(database, "drain")
    assert result.stdout == "1 enqueued, 0 already known, 8 set aside, 0 left\n"
    assert result.exit_code == 1
    *lines, last = result.stderr.splitlines()
    assert last == "callbacks: 8 rows not enqueued"
    named = dict(line.partition("row ")[2].split(" ", 1) for line in lines)
    assert [why.partition(")")[0] for why in named.values()] == [f"({id}" for id in BAD]
    assert "is set aside: callback_url: " in lines[3]
    assert enqueued(client) == ["good"]
    problems = dict(database.rows)
    assert problems.keys() == BAD.keys()
    assert all(problems.values())
    assert command(database, "drain").exit_code == 0


def test_what_was_set_aside_is_tried_again_on_request_or_when_it_is_added_again(
    database: Database, environment: Environment, client: redis.Redis
) -> None:
    environment(CALLBACKS_HTTPS_ONLY=True)
    for id in ("t-1", "t-2"):
        insert(database, id, {"callback_url": "http://customer.example/hook", "data": 1})
    assert drained(database)[0] == Drained(set_aside=2)
    with Session(database.engine) as session:
        outbox.add(session, URL, "corrected", id="t-1")
        session.commit()
    assert drained(database)[0] == Drained(enqueued=1)
    assert body_of(client, "t-1")["data"] == "corrected"
    assert drained(database, again=True)[0] == Drained(set_aside=1)
    environment(CALLBACKS_HTTPS_ONLY=False)
    assert drained(database)[0] == Drained()
    assert drained(database, again=True)[0] == Drained(enqueued=1)
    assert database.rows == []


def test_a_known_id_with_other_data_is_set_aside(
    database: Database, environment: Environment
) -> None:
    callbacks.enqueue(URL, 1, id="t-1")
    with Session(database.engine) as session:
        outbox.add(session, URL, 2, id="t-1")
        session.commit()
    done, told = drained(database)
    assert done == Drained(set_aside=1)
    assert told == ["t-1 is set aside: id: is known with another URL, event, environment or data"]


def fill(database: Database, count: int) -> list[str]:
    ids = [f"t-{n:03}" for n in range(count)]
    with Session(database.engine) as session:
        for id in ids:
            outbox.add(session, URL, id, id=id)
        session.commit()
    return ids


def test_while_redis_is_away_all_stays_and_the_command_says_so(
    database: Database, environment: Environment, redis_url: str
) -> None:
    ids = fill(database, 3)
    environment(REDIS_URL="redis://127.0.0.1:1/0")
    result = command(database, "drain")
    assert (result.exit_code, result.stdout) == (
        1,
        "0 enqueued, 0 already known, 0 set aside, 3 left\n",
    )
    assert result.stderr.startswith(
        "callbacks: stopped; the rest is still in callbacks_outbox: Redis cannot be reached at "
    )
    assert [id for id, _ in database.rows] == ids
    environment(REDIS_URL=redis_url)
    assert json.loads(command(database, "drain", "--json").stdout) == {
        "enqueued": 3, "known": 0, "set_aside": 0, "left": 0,
    }  # fmt: skip


def test_a_full_queue_leaves_the_rest_in_the_outbox(
    database: Database, environment: Environment, client: redis.Redis
) -> None:
    ids = fill(database, 5)
    environment(CALLBACKS_MAX_QUEUED=2)
    result = command(database, "drain")
    assert result.exit_code == 1
    assert "the rest is still in callbacks_outbox: 2 callbacks wait, as many as" in result.stderr
    assert enqueued(client) == ids[:2]
    assert [id for id, _ in database.rows] == ids[2:]


def test_a_callback_that_redis_refuses_holds_up_no_other(
    database: Database, environment: Environment, client: redis.Redis, monkeypatch: Any
) -> None:
    monkeypatch.setattr(drain, "PAGE", 2)
    client.set(key("lane:https://broken.example:443"), "in the way")
    hosts = ("broken", "a", "broken", "b", "c")
    for n, host in enumerate(hosts):
        insert(database, f"{host}-{n}", {"callback_url": f"https://{host}.example/", "data": 1})
    done, told = drained(database)
    assert done == Drained(enqueued=3, left=2)
    assert [line.split(" Operation")[0] for line in told] == [
        f"broken-{n} is left for the next time: WRONGTYPE" for n in (0, 2)
    ]


def test_without_the_table_the_command_says_so(
    database: Database, environment: Environment
) -> None:
    result = command(database, "drain", "--table", "none")
    assert result.exit_code == 1
    assert result.stderr.startswith("callbacks: the database, for the table none: ")
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("mysql://me:geheim@host/x", "is of mysql; expected postgresql or sqlite"),
        ("no url", "is not a URL of a database"),
    ],
)
def test_a_database_of_another_kind_is_refused(url: str, says: str) -> None:
    result = CliRunner().invoke(main, ["outbox", "drain", "--database", url])
    assert result.exit_code == 2
    assert says in result.stderr
    assert "geheim" not in result.stderr


def test_the_url_may_be_that_of_an_asyncio_driver_or_herokus() -> None:
    assert engine_for("postgres://u:p@h/d").url.get_backend_name() == "postgresql"
    for url in ("postgres://h/d", "postgresql+asyncpg://h/d", "sqlite+aiosqlite:///x"):
        assert not engine_for(url).dialect.is_async


def test_the_table_is_created_once_or_its_sql_printed(
    database: Database, environment: Environment
) -> None:
    assert command(database, "create").stdout == "callbacks_outbox exists already\n"
    database.execute("DROP TABLE callbacks_outbox")
    sql = command(database, "create", "--sql").stdout
    assert command(database, "create").stdout == "callbacks_outbox created\n"
    database.execute("DROP TABLE callbacks_outbox")
    for statement in sql.split(";"):
        if statement.strip():
            database.execute(statement)
    fill(database, 1)
    assert drained(database)[0] == Drained(enqueued=1)


# Crashes and several at once


def test_a_drain_that_died_before_its_commit_is_repeated_and_nothing_is_enqueued_twice(
    database: Database,
    environment: Environment,
    client: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ids = fill(database, 3)

    def dies(*given: Any, **more: Any) -> Any:
        store(*given, **more)
        raise KeyboardInterrupt

    store = api.store
    with monkeypatch.context() as patched:
        patched.setattr("callbacks.api.store", dies)
        with pytest.raises(KeyboardInterrupt):
            drained(database)
    assert len(database.rows) == 3
    assert enqueued(client) == ids
    assert drained(database)[0] == Drained(known=3)
    assert database.rows == []


def test_drains_at_the_same_time_share_the_work(
    database: Database,
    environment: Environment,
    client: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(drain, "PAGE", 5)
    ids = fill(database, 20)
    together = threading.Barrier(4, timeout=30)
    store = api.store

    def store_together(*given: Any, **more: Any) -> list[Stored | Exception]:
        if not together.broken and together.n_waiting < 4:
            together.wait()  # each has read a page now
        return store(*given, **more)

    monkeypatch.setattr("callbacks.api.store", store_together)
    runtime()
    with ThreadPoolExecutor(4) as threads:
        runs = [threads.submit(drained, database) for _ in range(4)]
        passes = [run.result()[0] for run in runs]
    assert enqueued(client) == ids
    assert database.rows == []
    assert sum(each.enqueued for each in passes) == 20
    if database.engine.dialect.name == "postgresql":  # rows that are locked are passed over
        assert [each.known for each in passes] == [0] * 4


def open_transactions(database: Database) -> int:
    """How many a server still works on for applications that are gone."""
    if database.engine.dialect.name == "sqlite":
        return 0
    wanted = "SELECT count(*) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
    with database.engine.connect() as connection:
        found = connection.scalar(
            sa.text(f"{wanted} AND state IN ('active', 'idle in transaction')")
        )
    return int(found or 0)


def test_an_application_killed_around_its_commits_loses_no_callback_and_leaves_no_phantom(
    database: Database,
    environment: Environment,
    client: redis.Redis,
    request: pytest.FixtureRequest,
    record_property: Callable[[str, object], None],
) -> None:
    lives = request.config.getoption("--kills")
    args = ["-m", "tests.support.outbox_app", database.url, str(lives), "7"]
    passes = Drained()
    with (
        subprocess.Popen(
            [sys.executable, *args], cwd=REPO, env=clean_environment(), stdout=subprocess.PIPE
        ) as app,
        ThreadPoolExecutor(2) as drains,
    ):

        def drain_meanwhile() -> Drained:
            total = Drained()
            while app.poll() is None:
                total.add(drained(database)[0])
                time.sleep(0.05)
            return total

        for run in [drains.submit(drain_meanwhile) for _ in range(2)]:
            passes.add(run.result())
        assert app.stdout
        told = json.loads(app.stdout.read())
    until(lambda: not open_transactions(database), within=10)
    passes.add(drained(database)[0])
    orders, begun, known = database.orders, set(told["begins"]), set(told["committed"])
    cut = begun - known  # what it was doing when it was killed
    figures = {"lives": lives, "committed": len(orders), "told": len(known), "cut": len(cut)}
    record_property("figures", figures | {"cut, but committed": len(cut & orders)} | passes.counts)
    assert known <= orders <= begun
    assert enqueued(client) == sorted(orders)
    assert database.rows == []
    assert len(cut) > lives / 2


def lines(group: Group) -> list[str]:
    return group.output.splitlines()


def test_it_watches_and_goes_on_by_itself_when_redis_comes_back(
    database: Database, environment: Environment, tmp_path: Path
) -> None:
    server = Server(binaries()["valkey"], "--appendonly", "yes").start()
    env = clean_environment(
        REDIS_URL=server.url, DATABASE_URL=database.url, CALLBACKS_REDIS_TIMEOUT=1
    )
    code = "from callbacks.cli.main import main; main(prog_name='callbacks')"
    args = ["outbox", "drain", "--watch", "--every", "0.05"]
    watch = Group(code, args, env, tmp_path / "watch.log")
    try:
        fill(database, 2)
        until(lambda: "event=outbox_drained" in watch.output, within=20)
        assert "enqueued=2 known=0 set_aside=0 left=0" in watch.output
        server.kill()
        insert(database, "away", {"callback_url": URL, "data": 1})
        insert(database, "bad", "{")
        until(lambda: "event=outbox_waits" in watch.output, within=20)
        time.sleep(0.5)  # several more looks
        server.start()
        until(lambda: "event=outbox_goes_on" in watch.output, within=20)
        assert [id for id, _ in database.rows] == ["bad"]
        for event in ("outbox_waits", "outbox_goes_on", "outbox_row"):
            assert len([line for line in lines(watch) if f"event={event} " in line]) == 1
        watch.process.terminate()
        assert watch.wait(20) == 0
    finally:
        watch.kill()
        server.stop()
