"""`callbacks doctor` against a real server with real faults, in process."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from click.testing import CliRunner, Result

import callbacks
from callbacks import runtime
from callbacks.batcher.inspector import overview
from callbacks.batcher.store import Batcher
from callbacks.cli import doctor as examine
from callbacks.cli.main import main
from callbacks.model import Outcome
from callbacks.monitor.probes import Clock, Workers, read_server, read_trip, read_work, read_workers
from callbacks.worker.consumer import QUEUE
from tests.redis.support import backdate, begin, claim, everything, key, now_ms, put, settle
from tests.support.server import Server, free_port

CONFIG = {
    "maxmemory": 0,
    "maxmemory-policy": "noeviction",
    "maxclients": 10_000,
    "timeout": 0,
    "save": "",
}
NAMES = [
    "settings", "signing", "addresses", "deadline", "on_dead", "redis", "version", "role",
    "cluster", "eviction", "memory", "persistence", "durability", "latency", "connections",
    "timeout", "clock",
    "workers", "scheduler", "namespace", "books", "expiry", "waiting", "dead letters",
    "destinations", "secrets", "messages",
]  # fmt: skip


class Simulated:
    """Time that passes only in sleeps; `then` is called in each."""

    def __init__(self, then: Callable[[], object] = lambda: None) -> None:
        self.at, self.slept, self.then = 0.0, 0.0, then

    def sleep(self, seconds: float) -> None:
        self.at += seconds
        self.slept += seconds
        self.then()

    def clock(self) -> Clock:
        return Clock(monotonic=lambda: self.at, now_s=time.time, sleep=self.sleep)


@pytest.fixture
def whole(server: Server, client: redis.Redis) -> Iterator[redis.Redis]:
    """The server, restored afterwards."""
    yield client
    client.replicaof("no", "one")
    for name, value in CONFIG.items():
        client.config_set(name, value)
    client.execute_command("ACL", "DELUSER", "ops")


class Doctor:
    """Runs the command; returns its checks by name."""

    def __call__(self, *words: str) -> Result:
        result = CliRunner().invoke(main, ["doctor", *words])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    def checks(self, *modules: str, failed: str = "") -> dict[str, dict[str, Any]]:
        """Run it with --json; `failed`: the checks that stderr has to name."""
        result = self("--json", *modules)
        checks = {check["name"]: check for check in json.loads(result.stdout)}
        if failed:
            count = failed.count(",") + 1
            told = f"callbacks: {count} of {len(checks)} checks failed: {failed}\n"
            assert (result.exit_code, result.stderr) == (1, told)
        else:
            assert (result.exit_code, result.stderr) == (0, "")
        return checks


@pytest.fixture
def doctor(environment: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> Doctor:
    monkeypatch.setattr(examine, "Clock", Simulated().clock)
    return Doctor()


@pytest.fixture
def as_user(whole: redis.Redis, server: Server, environment: Callable[..., None]) -> Any:
    """Connect as a user with these rules: `as_user("+@all", "-config")`."""

    def become(*rules: str, keys: str = "~*") -> None:
        whole.execute_command("ACL", "SETUSER", "ops", "on", ">hunter2", keys, "&*", *rules)
        environment(REDIS_URL=f"redis://ops:hunter2@127.0.0.1:{server.port}/0")

    return become


# The whole command


def test_a_plain_server_has_warnings_and_no_failure_and_is_not_changed(
    doctor: Doctor, client: redis.Redis
) -> None:
    result = doctor()
    assert (result.exit_code, result.stderr) == (0, "")
    head, *rows = result.stdout.splitlines()
    assert head.split() == ["check", "verdict", "found;", "what", "to", "do"]
    assert len(rows) == len(NAMES)
    place = head.index("found;")
    for name, row in zip(NAMES, rows, strict=True):
        assert row.startswith(name)
        assert row[place - 1] == " "
        assert row[place] != " "
        assert ("; do: " in row) == (" warning " in row)
    assert everything(client) == {}


def test_json_is_a_list_of_checks_with_what_to_do(doctor: Doctor) -> None:
    checks = doctor.checks()
    assert list(checks) == NAMES
    fields = ("name", "verdict", "found", "todo", "runbook")
    assert {tuple(check) for check in checks.values()} == {fields}
    assert checks["scheduler"]["todo"] == "run periodiq callbacks"
    assert checks["version"]["found"].startswith(("Valkey ", "Redis "))
    assert checks["persistence"]["found"] == "none: the queue is lost when Redis restarts"


def test_a_bad_setting_is_the_only_check(doctor: Doctor, environment: Callable[..., None]) -> None:
    environment(CALLBACKS_BATCH_SIZE="many")
    checks = doctor.checks(failed="settings")
    assert list(checks) == ["settings"]
    assert "CALLBACKS_BATCH_SIZE is 'many', expected" in checks["settings"]["found"]


def test_an_actor_for_the_dead_is_looked_for_in_the_modules_that_workers_load(
    doctor: Doctor,
    environment: Callable[..., None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    environment(CALLBACKS_ON_DEAD="mourn_in_doctor")
    assert "no actor 'mourn_in_doctor'" in doctor.checks(failed="on_dead")["on_dead"]["found"]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "doctors_tasks.py").write_text(
        "import dramatiq\nfrom callbacks.runtime import broker\n"
        "@dramatiq.actor(broker=broker)\ndef mourn_in_doctor(callback_id, reason): pass\n"
    )
    try:
        assert doctor.checks("doctors_tasks")["on_dead"]["verdict"] == "ok"
    finally:
        runtime.broker.actors.pop("mourn_in_doctor", None)
    failed = doctor.checks("no_such_module", failed="on_dead")["on_dead"]
    assert "No module named 'no_such_module'" in failed["found"]


def test_a_misspelt_setting_is_reported_once(
    doctor: Doctor, environment: Callable[..., None]
) -> None:
    environment(CALLBACKS_BATCHSIZE="5")
    assert "CALLBACKS_BATCH_SIZE" in doctor.checks()["settings"]["found"]


# A Redis that cannot be used


def test_an_unreachable_redis_is_one_clear_line(
    doctor: Doctor, environment: Callable[..., None]
) -> None:
    port = free_port()
    environment(REDIS_URL=f"redis://ops:hunter2@127.0.0.1:{port}/0")
    result = doctor()
    assert result.exit_code == 1
    assert result.stderr == "callbacks: 1 of 6 checks failed: redis\n"
    (line,) = (line for line in result.stdout.splitlines() if " failure " in line)
    assert f"no Redis at redis://127.0.0.1:{port}/0: " in line
    assert "do: start Redis, or correct REDIS_URL; meanwhile enqueue raises" in line
    assert "hunter2" not in result.output


def test_a_redis_that_hangs_is_reported_within_its_timeout(
    doctor: Doctor, server: Server, environment: Callable[..., None]
) -> None:
    environment(CALLBACKS_REDIS_TIMEOUT="0.3")
    server.signal(signal.SIGSTOP)
    try:
        check = doctor.checks(failed="redis")["redis"]
    finally:
        server.signal(signal.SIGCONT)
    assert check["todo"].startswith("see whether Redis hangs")


def test_a_wrong_password_is_reported_and_not_shown(
    doctor: Doctor, as_user: Any, server: Server, environment: Callable[..., None]
) -> None:
    as_user("+@all")
    environment(REDIS_URL=f"redis://ops:letmein@127.0.0.1:{server.port}/0")
    check = doctor.checks(failed="redis")["redis"]
    assert check["todo"] == "correct the user and the password in REDIS_URL"
    assert "letmein" not in str(check)


def test_no_more_connections_is_reported(
    doctor: Doctor, whole: redis.Redis, server: Server
) -> None:
    whole.config_set("maxclients", 1)
    check = doctor.checks(failed="redis")["redis"]
    assert "max number of clients reached" in check["found"]
    assert check["todo"].startswith("lower CALLBACKS_REDIS_MAX_CONNECTIONS")


# A Redis with faults


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-lru"])
def test_an_evicting_memory_policy_fails(doctor: Doctor, whole: redis.Redis, policy: str) -> None:
    whole.config_set("maxmemory-policy", policy)
    check = doctor.checks(failed="eviction")["eviction"]
    assert check["found"].startswith(policy)
    assert "redis-cli CONFIG SET maxmemory-policy noeviction" in check["todo"]


def test_a_nearly_full_memory_fails(doctor: Doctor, whole: redis.Redis) -> None:
    used = whole.info("memory")["used_memory"]
    whole.config_set("maxmemory", int(used / 0.95))
    assert "enqueue raises QueueFull" in doctor.checks(failed="memory")["memory"]["found"]


def test_a_replica_fails(doctor: Doctor, whole: redis.Redis) -> None:
    port = free_port()
    whole.replicaof("127.0.0.1", str(port))
    check = doctor.checks(failed="role")["role"]
    assert check["found"].startswith(f"replica of 127.0.0.1:{port}: ")


def test_persistence_and_the_idle_timeout_are_read(doctor: Doctor, whole: redis.Redis) -> None:
    whole.config_set("save", "3600 1")
    whole.config_set("timeout", 5)
    checks = doctor.checks()
    assert checks["persistence"]["found"].startswith("snapshots only (save 3600 1): ")
    assert checks["timeout"]["found"].startswith("idle connections are closed after 5 s: ")


def test_a_user_that_must_not_read_the_configuration_gets_what_info_tells(
    doctor: Doctor, as_user: Any, whole: redis.Redis
) -> None:
    as_user("+@all", "-config")
    checks = doctor.checks()
    assert checks["eviction"]["verdict"] == "ok"
    assert checks["memory"]["verdict"] == "warning"
    assert "(save is unknown: this user may not read it)" in checks["persistence"]["found"]
    assert checks["timeout"]["found"] == "timeout is unknown: this user may not read it"
    whole.config_set("maxmemory-policy", "allkeys-lfu")
    assert doctor.checks(failed="eviction")["eviction"]["found"].startswith("allkeys-lfu")


def test_a_user_that_must_not_read_info_gets_what_the_configuration_tells(
    doctor: Doctor, as_user: Any
) -> None:
    as_user("+@all", "-info")
    checks = doctor.checks()
    assert checks["eviction"]["verdict"] == "ok"
    assert checks["version"]["found"] == "the version is unknown: this user may not read it"
    assert checks["books"]["verdict"] == "ok"


def test_a_user_without_our_keys_or_scripts_gets_the_rule_that_is_missing(
    doctor: Doctor, as_user: Any
) -> None:
    as_user("+@all", keys="~other:*")
    check = doctor.checks(failed="books")["books"]
    assert check["found"].startswith("cannot be read: ")
    assert check["todo"].startswith("redis-cli ACL SETUSER <user> '~{callbacks}:*' '~callbacks:*'")


def test_the_suggested_rule_is_sufficient(doctor: Doctor, as_user: Any) -> None:
    as_user("+@all", "-@admin", "~callbacks:*", keys="~{callbacks}:*")
    assert doctor.checks()["books"]["verdict"] == "ok"
    assert callbacks.enqueue("https://a.example/x", 1).accepted


# The facts


def test_what_a_server_says_is_read(server: Server, whole: redis.Redis) -> None:
    whole.config_set("maxmemory", 50_000_000)
    found = read_server(whole)
    assert found.name == ("Valkey" if "valkey" in server.binary else "Redis")
    assert (found.role, found.primary, found.shards) == ("master", "", 0)
    assert (found.policy, found.limit, found.evicted) == ("noeviction", 50_000_000, 0)
    assert (found.aof, found.save, found.snapshot_ok, found.aof_ok) == (False, "", True, True)
    assert (found.most_clients, found.idle_s, found.stops) == (10_000, 0, True)
    assert found.used
    assert found.machine
    assert found.clients


def test_keys_that_were_evicted_are_counted(whole: redis.Redis) -> None:
    whole.config_set("maxmemory-policy", "allkeys-random")
    for n in range(50):
        whole.set(f"k{n}", b"x" * 10_000)
    whole.config_set("maxmemory", whole.info("memory")["used_memory"] - 100_000)
    whole.set("one", "more")
    assert read_server(whole).evicted > 0
    whole.config_resetstat()


@pytest.mark.parametrize("off_s", [-90.0, 90.0])
def test_a_clock_that_is_off_is_measured(client: redis.Redis, off_s: float) -> None:
    trip = read_trip(client, Clock(now_s=lambda: time.time() - off_s))
    assert abs(trip.ahead_ms - off_s * 1000) < 5_000
    assert 0 <= trip.median_ms <= trip.worst_ms


def test_a_slow_redis_is_asked_for_a_few_seconds_at_most(client: redis.Redis) -> None:
    at = iter(n / 2 for n in range(1_000))  # each reading of the clock takes half a second
    trip = read_trip(client, Clock(monotonic=lambda: next(at)))
    assert trip.median_ms == 500
    assert next(at) < 10


def workers(client: redis.Redis, simulated: Simulated, *, interval_s: float = 3) -> Workers:
    return read_workers(
        client, "callbacks", QUEUE, check_interval_s=interval_s, clock=simulated.clock()
    )


HEARTBEATS = "callbacks:__heartbeats__"


def test_processes_whose_heartbeat_moves_are_at_work_and_resting_ones_are_not(
    client: redis.Redis,
) -> None:
    client.zadd(HEARTBEATS, {"producer": now_ms(client), "worker": 1, "dead": 1})

    def beat() -> None:
        client.zincrby(HEARTBEATS, 100, "worker")  # its clock is decades behind: harmless
        client.zadd(HEARTBEATS, {"just started": 5})

    client.set(key("tick"), "worker", px=60_000)
    simulated = Simulated(beat)
    assert workers(client, simulated) == Workers(2, True)
    assert simulated.slept == pytest.approx(0.6)


def test_a_tick_may_come_as_late_as_its_interval_allows(client: redis.Redis) -> None:
    def tick() -> None:
        if simulated.at > 1.1:
            client.set(key("tick"), "worker", px=60_000)
        client.zincrby(HEARTBEATS, 100, "worker")

    client.zadd(HEARTBEATS, {"worker": 1})
    simulated = Simulated(tick)
    assert workers(client, simulated) == Workers(1, True)


def test_without_any_worker_the_look_ends_soon(client: redis.Redis) -> None:
    simulated = Simulated()
    assert workers(client, simulated) == Workers(0, False)
    assert simulated.slept < 1.5


def test_a_tick_that_would_take_too_long_is_not_waited_for(client: redis.Redis) -> None:
    client.zadd(HEARTBEATS, {"worker": 1})
    simulated = Simulated(lambda: client.zincrby(HEARTBEATS, 100, "worker"))
    assert workers(client, simulated, interval_s=3_600) == Workers(1, None)
    assert simulated.slept < 5.2


def test_a_queue_without_a_worker_fails(doctor: Doctor, batcher: Batcher) -> None:
    put(batcher, "c-1")
    check = doctor.checks(failed="workers")["workers"]
    assert check["found"] == "no worker is running; 1 callback not sent yet"
    assert check["todo"].startswith("run dramatiq callbacks ")


def test_work_counts_recent_deaths_held_destinations_and_failed_messages(
    batcher: Batcher, client: redis.Redis
) -> None:
    for n, id in enumerate(("c-1", "c-2")):
        put(batcher, id, f"https://{n}.example:443")
    for claimed in claim(batcher).callbacks:
        begin(batcher, claimed)
        settle(batcher, claimed, Outcome.DEAD)
    backdate(client, "dead", "c-1", 3_700_000)
    batcher.pause("https://0.example:443")
    client.hset(key("dest:https://1.example:443"), "broken", 1)
    client.zadd("callbacks:callbacks.XQ", {"m": 1})
    work = read_work(batcher.scripts, "callbacks", "callbacks")
    assert (work.books.dead, work.books.dead_last_hour) == (2, 1)
    assert (work.destinations, work.broken, work.paused, work.failed_messages) == (2, 1, 1, 1)


def test_totals_that_do_not_balance_fail(doctor: Doctor, client: redis.Redis) -> None:
    client.hincrby(key("counters"), "accepted", 2)
    assert doctor.checks(failed="books")["books"]["found"] == "they do not balance by 2"


# The scheduler


def test_a_message_of_the_scheduler_is_remembered_and_another_is_not(
    environment: Callable[..., None], client: redis.Redis
) -> None:
    del environment
    callbacks.check_and_flush.send()
    assert client.hget(key("state"), "scheduled") is None
    before = now_ms(client)
    callbacks.check_and_flush.send_with_options(scheduled_at="2026-01-01T00:00:00+00:00")
    seen = overview(runtime.runtime().batcher.scripts).scheduled_ms
    assert seen is not None
    assert before <= seen <= now_ms(client)
    assert client.llen("callbacks:callbacks") == 2


def test_the_note_of_the_scheduler_moves_on_also_on_a_full_redis(
    batcher: Batcher, whole: redis.Redis
) -> None:
    whole.hset(key("state"), "scheduled", 1)
    whole.config_set("maxmemory", 1)
    batcher.scheduled()
    assert int(whole.hget(key("state"), "scheduled")) > 1


def test_a_note_that_fails_keeps_the_message_and_makes_no_noise(
    environment: Callable[..., None], client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    del environment
    client.set(key("state"), "no hash")
    callbacks.check_and_flush.send_with_options(scheduled_at="2026-01-01T00:00:00+00:00")
    assert client.llen("callbacks:callbacks") == 1
    assert [record for record in caplog.records if record.levelname != "DEBUG"] == []


# The workers' warning


def test_a_worker_warns_of_eviction_and_of_nothing_else(
    environment: Callable[..., None], whole: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    runtime.warn_of_eviction()
    assert caplog.records == []
    whole.config_set("maxmemory-policy", "volatile-ttl")
    runtime.warn_of_eviction()
    (record,) = caplog.records
    assert "volatile-ttl" in record.getMessage()
    assert "CONFIG SET maxmemory-policy noeviction" in record.getMessage()


def test_a_worker_that_must_not_read_the_policy_says_nothing(
    as_user: Any, caplog: pytest.LogCaptureFixture
) -> None:
    as_user("+@all", "-info")
    runtime.warn_of_eviction()
    assert caplog.records == []


def test_a_worker_asks_again_while_redis_is_away(
    environment: Callable[..., None], redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    environment(REDIS_URL=f"redis://127.0.0.1:{free_port()}/0")
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            environment(REDIS_URL=redis_url)

    runtime.warn_of_eviction(sleep)
    assert waits == [5.0, 5.0, 5.0]


def test_another_namespace_on_this_redis_is_told(
    doctor: Doctor, batcher: Batcher, client: redis.Redis
) -> None:
    assert doctor.checks()["namespace"]["found"] == "callbacks, the only one found on this Redis"
    client.hset("{shop}:counters", "accepted", 3)
    check = doctor.checks()["namespace"]
    assert check["verdict"] == "warning"
    assert check["found"] == "callbacks is empty, but this Redis has also shop"
    put(batcher, "c-1")
    check = doctor.checks(failed="workers")["namespace"]
    assert (check["verdict"], check["found"]) == ("ok", "callbacks; also on this Redis: shop")
