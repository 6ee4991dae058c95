"""Each check of `doctor`: its verdict, its finding and its advice, as users read them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import redis

from callbacks.batcher.errors import WrongForm
from callbacks.batcher.inspector import TOTALS, Overview, Survey
from callbacks.monitor import service_checks
from callbacks.monitor.checks import Check, CheckStatus
from callbacks.monitor.health import Health
from callbacks.monitor.probes import Work, Workers
from callbacks.monitor.redis_checks import (
    Server,
    Trip,
    clock,
    cluster,
    connections,
    durability,
    eviction,
    judge_server,
    latency,
    memory,
    persistence,
    role,
    timeout,
    version,
)
from callbacks.monitor.topology_checks import ClusterFacts, SentinelFacts, sentinels, worst_of
from callbacks.monitor.topology_checks import cluster as whole_cluster
from callbacks.settings import Settings, load_settings

OK, WARNING, FAILURE = CheckStatus.OK, CheckStatus.WARNING, CheckStatus.FAILURE
MB = 1024 * 1024
NOW_MS = 1_000_000_000
SECRET = "whsec_" + "A" * 43 + "="

#: A server without any fault.
GOOD = Server(
    name="Valkey",
    version="9.1.2",
    role="master",
    shards=0,
    policy="noeviction",
    used=10 * MB,
    limit=100 * MB,
    machine=1_000 * MB,
    aof=True,
    fsync="everysec",
    save="",
    stops=True,
    clients=9,
    most_clients=100,
    idle_s=0,
)
NEAR = Trip(median_ms=0.4, worst_ms=2.0, ahead_ms=0, blur_ms=1)


def told(check: Check) -> tuple[CheckStatus, str, str]:
    return check.verdict, check.found, check.todo


def server(**changed: Any) -> Server:
    return replace(GOOD, **changed)


# The server


def test_a_good_server_passes_every_check_and_nothing_is_to_do() -> None:
    checks = judge_server(GOOD, NEAR, processes=2, per_process=4)
    assert [check.name for check in checks] == [
        "version", "role", "cluster", "eviction", "memory", "persistence",
        "durability", "latency", "connections", "timeout", "clock",
    ]  # fmt: skip
    assert {check.verdict for check in checks} == {OK}
    assert {check.todo for check in checks} == {""}


def test_a_server_that_tells_nothing_is_warned_of_and_never_a_crash() -> None:
    checks = judge_server(Server(), NEAR, processes=0, per_process=4)
    known = ("latency", "clock", "durability")
    unknown = [check for check in checks if check.name not in known]
    assert {check.verdict for check in unknown} == {WARNING}
    for check in unknown:
        assert "unknown: this user may not read it" in check.found, check
        assert check.todo.startswith("ask whoever runs this Redis what ")


@pytest.mark.parametrize(
    ("name", "number", "verdict", "found", "todo"),
    [
        ("Redis", "6.2.0", OK, "Redis 6.2.0", ""),
        ("Redis", "7.0.15", OK, "Redis 7.0.15", ""),
        ("Redis", "10.0.0", OK, "Redis 10.0.0", ""),
        ("Valkey", "7.2.4", OK, "Valkey 7.2.4", ""),
        (
            "Redis",
            "6.0.16",
            FAILURE,
            "Redis 6.0.16 is too old",
            "use Redis 6.2 or later, or Valkey",
        ),
        ("Redis", "5", FAILURE, "Redis 5 is too old", "use Redis 6.2 or later, or Valkey"),
        (
            "Dragonfly",
            "7.4.0",
            WARNING,
            "Dragonfly 7.4.0: not tested with callbacks",
            "use Redis or Valkey",
        ),
    ],
)
def test_redis_has_to_be_6_2_and_valkey_may_be_any(
    name: str, number: str, verdict: CheckStatus, found: str, todo: str
) -> None:
    assert told(version(server(name=name, version=number))) == (verdict, found, todo)


def test_a_replica_fails_because_it_refuses_writes() -> None:
    assert told(role(server(role="slave", primary="10.0.0.1:6379"))) == (
        FAILURE,
        "replica of 10.0.0.1:6379: it refuses every write (READONLY)",
        "point REDIS_URL at the primary, or promote this one: redis-cli REPLICAOF NO ONE",
    )


@pytest.mark.parametrize("shards", [1, 3])
def test_a_node_of_a_cluster_behind_the_url_of_one_server_fails(shards: int) -> None:
    found = "on, but REDIS_URL names one server: MOVED is not followed"
    todo = "write REDIS_URL as redis+cluster://host:port"
    assert told(cluster(server(shards=shards))) == (FAILURE, found, todo)


NO_EVICTION = (
    "redis-cli CONFIG SET maxmemory-policy noeviction, then CONFIG REWRITE"
    " (Heroku: heroku redis:maxmemory --policy noeviction)"
)


@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-lfu", "allkeys-random", "made-up"])
def test_a_policy_that_evicts_any_key_fails_because_callbacks_are_lost(policy: str) -> None:
    assert told(eviction(policy, 100 * MB)) == (
        FAILURE,
        f"{policy}: at its memory limit Redis deletes any key, so that callbacks are lost",
        NO_EVICTION,
    )


@pytest.mark.parametrize("policy", ["volatile-lru", "volatile-ttl", "volatile-random"])
def test_a_policy_that_evicts_expiring_keys_fails_because_limits_are_forgotten(policy: str) -> None:
    assert told(eviction(policy, 100 * MB)) == (
        FAILURE,
        (
            f"{policy}: at its memory limit Redis deletes paces, open breakers and limits of"
            " destinations: receivers get too much"
        ),
        NO_EVICTION,
    )


def test_an_evicting_policy_without_a_limit_fails_too_and_says_so() -> None:
    check = eviction("allkeys-lru", 0)
    assert check.verdict is FAILURE
    assert "at its memory limit (there is no limit yet) Redis deletes" in check.found


def test_keys_already_evicted_are_reported_with_the_command_that_finds_the_damage() -> None:
    check = eviction("allkeys-lru", 100 * MB, 1_200)
    assert check.found.endswith("; 1,200 keys evicted since Redis started")
    assert check.todo == f"{NO_EVICTION}, then see callbacks audit"
    assert told(eviction("noeviction", 100 * MB, 3)) == (
        WARNING,
        "noeviction now; 3 keys evicted since Redis started",
        "callbacks audit lists what is missing",
    )


ROOM = (
    "raise maxmemory (Heroku: a larger plan). To free memory now, start more workers so that the"
    " queue drains, lower CALLBACKS_SENT_MAX, or if nothing else helps, delete dead letters that"
    " nobody needs any more (callbacks dead purge)"
)


@pytest.mark.parametrize(
    ("used", "verdict", "found", "todo"),
    [
        (74, OK, "74.0 MB of 100.0 MB used (74%)", ""),
        (75, WARNING, "75.0 MB of 100.0 MB used (75%): from 90% on enqueue raises QueueFull", ROOM),
        (89, WARNING, "89.0 MB of 100.0 MB used (89%): from 90% on enqueue raises QueueFull", ROOM),
        (90, FAILURE, "90.0 MB of 100.0 MB used (90%): enqueue raises QueueFull", ROOM),
        (137, FAILURE, "137.0 MB of 100.0 MB used (137%): enqueue raises QueueFull", ROOM),
    ],
)
def test_memory_warns_before_enqueues_are_refused_and_fails_when_they_are(
    used: int, verdict: CheckStatus, found: str, todo: str
) -> None:
    assert told(memory(server(used=used * MB))) == (verdict, found, todo)


def test_memory_without_a_limit_is_warned_of_with_a_limit_that_fits_the_machine() -> None:
    found = "10.0 MB used, no limit: Redis is killed when its machine runs out of memory"
    assert told(memory(server(limit=0))) == (
        WARNING,
        found,
        (
            "redis-cli CONFIG SET maxmemory 750mb, three quarters of its machine (less if Redis"
            " shares the machine or runs in a container), then CONFIG REWRITE"
        ),  # three quarters of 1000 MB
    )
    assert "maxmemory <bytes> (less" in memory(server(limit=0, machine=None)).todo


APPEND = (
    "redis-cli CONFIG SET appendonly yes, then CONFIG REWRITE (Heroku: a premium plan;"
    " mini keeps nothing)"
)
DISK = "free space on its disk (df -h; redis-cli CONFIG GET dir), and see the log of Redis"


@pytest.mark.parametrize(
    ("changed", "verdict", "found", "todo"),
    [
        ({}, OK, "append-only file, appendfsync everysec", ""),
        ({"fsync": "always"}, OK, "append-only file, appendfsync always", ""),
        (
            {"fsync": None, "save": None, "stops": None},
            OK,
            "append-only file, appendfsync is unknown",
            "",
        ),
        (
            {"fsync": "no"},
            WARNING,
            "append-only file, appendfsync no: half a minute of callbacks can be lost",
            "redis-cli CONFIG SET appendfsync everysec, then CONFIG REWRITE",
        ),
        ({"aof": False}, WARNING, "none: the queue is lost when Redis restarts", APPEND),
        (
            {"aof": False, "save": None},
            WARNING,
            (
                "none (save is unknown: this user may not read it): the queue is lost when Redis"
                " restarts"
            ),
            APPEND,
        ),
        (
            {"aof": False, "save": "3600 1"},
            WARNING,
            (
                "snapshots only (save 3600 1): what came since the last one is lost when Redis"
                " restarts"
            ),
            APPEND,
        ),
        (
            {"aof_ok": False},
            FAILURE,
            "the last write to the append-only file failed: Redis refuses every write",
            DISK,
        ),
        (
            {"snapshot_ok": False, "save": "3600 1"},
            FAILURE,
            "the last snapshot failed: Redis refuses every write (MISCONF)",
            DISK,
        ),
        (
            {"snapshot_ok": False, "save": "3600 1", "stops": False},
            WARNING,
            "the last snapshot failed",
            DISK,
        ),
        ({"snapshot_ok": False, "save": None}, WARNING, "the last snapshot failed", DISK),
        ({"snapshot_ok": False}, OK, "append-only file, appendfsync everysec", ""),
    ],
)
def test_persistence_tells_what_a_restart_costs_and_what_a_full_disk_does(
    changed: dict[str, Any], verdict: CheckStatus, found: str, todo: str
) -> None:
    assert told(persistence(server(**changed))) == (verdict, found, todo)


# The connection


SLOW = (
    "run workers and Redis in one region; look for slow commands (redis-cli SLOWLOG GET) and"
    " a busy machine (redis-cli --latency)"
)


@pytest.mark.parametrize(
    ("median_ms", "verdict", "after", "todo"),
    [
        (20.0, OK, "", ""),
        (20.1, WARNING, ": sends fall behind their pace", SLOW),
        (250.0, WARNING, ": sends fall behind their pace", SLOW),
        (250.1, FAILURE, ": too slow to keep leases and paces", SLOW),
    ],
)
def test_latency_is_judged_by_the_median(
    median_ms: float, verdict: CheckStatus, after: str, todo: str
) -> None:
    trip = replace(NEAR, median_ms=median_ms, worst_ms=900.0)
    found = f"{median_ms} ms per round trip, 900.0 ms at worst{after}"
    assert told(latency(trip)) == (verdict, found, todo)


FEWER = (
    "lower CALLBACKS_REDIS_MAX_CONNECTIONS, run fewer processes, or raise maxclients"
    " (Heroku: a larger plan)"
)


@pytest.mark.parametrize(
    ("clients", "processes", "verdict", "found", "todo"),
    [
        (1, 0, OK, "1 of 20 open", ""),
        (15, 2, OK, "15 of 20 open; 2 worker processes with 4 each may open 8", ""),
        (16, 2, WARNING, "16 of 20 open; 2 worker processes with 4 each may open 8", FEWER),
        (9, 5, WARNING, "9 of 20 open; 5 worker processes with 4 each may open 20", FEWER),
        (19, 0, FAILURE, "19 of 20 open: the next ones are refused", FEWER),
    ],
)
def test_connections_are_those_open_and_those_that_may_come(
    clients: int, processes: int, verdict: CheckStatus, found: str, todo: str
) -> None:
    check = connections(
        server(clients=clients, most_clients=20), processes=processes, per_process=4
    )
    assert told(check) == (verdict, found, todo)


@pytest.mark.parametrize(
    ("idle_s", "verdict", "found", "todo"),
    [
        (0, OK, "0: idle connections stay open", ""),
        (300, OK, "idle connections are closed after 300 s, and opened again when needed", ""),
        (
            5,
            WARNING,
            (
                "idle connections are closed after 5 s: commands sent at that moment fail and are"
                " repeated"
            ),
            "redis-cli CONFIG SET timeout 300, then CONFIG REWRITE",
        ),
    ],
)
def test_only_a_very_short_timeout_is_warned_of(
    idle_s: int, verdict: CheckStatus, found: str, todo: str
) -> None:
    assert told(timeout(server(idle_s=idle_s))) == (verdict, found, todo)


SET_CLOCK = "correct the clock that is wrong (timedatectl set-ntp true)"


@pytest.mark.parametrize(
    ("ahead_ms", "blur_ms", "verdict", "found", "todo"),
    [
        (900, 1, OK, "the same as that of Redis, give or take 899 ms", ""),
        (5_000, 4_500, OK, "the same as that of Redis, give or take 4500 ms", ""),
        (
            2_000,
            1,
            WARNING,
            "that of Redis is 2.0 s ahead of this machine's: messages come early or late",
            SET_CLOCK,
        ),
        (
            -90_000,
            1,
            FAILURE,
            (
                "that of Redis is 90.0 s behind this machine's: the scheduler's messages are"
                " dropped, live processes count as dead, and if it is the clock of Redis that is"
                " wrong, receivers refuse signatures from 5 min on"
            ),
            SET_CLOCK,
        ),
    ],
)
def test_clocks_are_compared_with_room_for_the_round_trip(
    ahead_ms: int, blur_ms: int, verdict: CheckStatus, found: str, todo: str
) -> None:
    trip = replace(NEAR, ahead_ms=ahead_ms, blur_ms=blur_ms)
    assert told(clock(trip)) == (verdict, found, todo)


# Settings


def settings(**given: object) -> Settings:
    environ = {f"CALLBACKS_{name.upper()}": str(value) for name, value in given.items()}
    return load_settings(environ)


def test_good_settings_have_nothing_to_do() -> None:
    checks = service_checks.judge_settings(settings(secret=SECRET))
    assert [told(check) for check in checks] == [
        (OK, "valid; namespace callbacks, environment production", ""),
        (OK, "there is a secret for production", ""),
        (OK, "only public addresses are reached", ""),
        (OK, "a request ends within 10 s, and --worker-shutdown-timeout has to be longer", ""),
    ]


def test_a_misspelt_name_is_a_warning_with_the_nearest_one() -> None:
    assert told(service_checks.spelling(settings(batchsize=5))) == (
        WARNING,
        "CALLBACKS_BATCHSIZE is not a setting of callbacks; did you mean CALLBACKS_BATCH_SIZE?",
        "rename it, or unset it if it is not meant for us",
    )


def test_without_a_secret_requests_are_unsigned_which_is_a_warning() -> None:
    assert told(service_checks.signing(settings())) == (
        WARNING,
        "no secret is set: requests are not signed, and receivers cannot verify them",
        "set CALLBACKS_SECRET to whsec_ and 32 random bytes in base64, in every process",
    )


def test_a_secret_for_other_environments_alone_is_a_warning() -> None:
    check = service_checks.signing(settings(secret_staging=SECRET, environment="pre-prod"))
    assert told(check) == (
        WARNING,
        "there are secrets, but none for pre-prod: enqueue refuses its callbacks",
        "set CALLBACKS_SECRET_PRE_PROD, or CALLBACKS_SECRET for all environments",
    )


def test_a_resolver_is_named_and_no_secret_ever_shown() -> None:
    check = service_checks.signing(settings(secret_resolver="os.path:join", secret=SECRET))
    assert told(check) == (OK, "secrets come from os.path:join", "")
    checks = service_checks.judge_settings(settings(secret=SECRET))
    assert SECRET not in str(checks)


def test_a_resolver_that_does_not_load_fails() -> None:
    check = service_checks.signing(settings(secret_resolver="no_such_module:find"))
    assert check.verdict is FAILURE
    assert "no_such_module:find cannot be loaded" in check.found


def test_an_actor_for_the_dead_that_workers_would_not_find_fails_with_the_call_that_looks() -> None:
    given = settings(on_dead="mourn")
    missing = "CALLBACKS_ON_DEAD: no actor 'mourn' here; start the workers with the module"
    assert told(service_checks.on_dead(given, missing)) == (
        FAILURE,
        "CALLBACKS_ON_DEAD: no actor 'mourn' here",
        (
            "name the modules that your workers load, such as callbacks doctor yourapp.tasks; if"
            " this still fails, correct CALLBACKS_ON_DEAD: no worker starts"
        ),
    )
    assert told(service_checks.on_dead(given, "")) == (OK, "mourn is notified of dead letters", "")
    assert service_checks.on_dead(settings(), "").verdict is OK


def test_a_cluster_is_reported_once_and_its_advice_once() -> None:
    error = WrongForm("REDIS_URL leads to a node of a Redis Cluster; write it as another")
    found = (
        "Redis at redis://127.0.0.1:6379/0 answers: REDIS_URL leads to a node of a Redis Cluster"
    )
    assert service_checks.unreached(settings(), error).found == found


def test_private_networks_that_may_be_reached_are_a_warning() -> None:
    check = service_checks.addresses(settings(allowed_networks="10.0.0.0/8 127.0.0.0/8"))
    assert told(check) == (
        WARNING,
        "callback URLs may lead into 10.0.0.0/8, 127.0.0.0/8, although that is not public",
        "unset CALLBACKS_ALLOWED_NETWORKS if customers choose the URLs",
    )


def test_a_deadline_past_the_shutdown_names_the_option_that_fits() -> None:
    assert told(service_checks.deadline(settings(deadline=20))) == (
        WARNING,
        (
            "a request ends within 20 s: longer than the usual shutdown, which cuts it off, so that"
            " it is sent again"
        ),
        "start workers with --worker-shutdown-timeout 21000, or lower CALLBACKS_DEADLINE to 10",
    )


def test_bad_settings_are_one_failure() -> None:
    assert told(service_checks.bad_settings("CALLBACKS_BATCH_SIZE is 'x', expected y")) == (
        FAILURE,
        "CALLBACKS_BATCH_SIZE is 'x', expected y",
        "correct it in every process: none starts with it",
    )


# Reaching Redis


@pytest.mark.parametrize(
    ("error", "todo"),
    [
        (
            redis.ConnectionError("Error 111 connecting to h:1. Connection refused."),
            "start Redis, or correct REDIS_URL; meanwhile enqueue raises and nothing is sent",
        ),
        (
            redis.ConnectionError("Error -2 connecting to h:1. Name or service not known."),
            "correct the host in REDIS_URL, which does not resolve here",
        ),
        (
            redis.ConnectionError("max number of clients reached"),
            "lower CALLBACKS_REDIS_MAX_CONNECTIONS, run fewer processes, or raise maxclients",
        ),
        (
            redis.ConnectionError("[SSL: CERTIFICATE_VERIFY_FAILED] self-signed certificate"),
            "on Heroku set CALLBACKS_REDIS_TLS_VERIFY=false; otherwise renew its certificate",
        ),
        (
            redis.TimeoutError("Timeout reading from socket"),
            "see whether Redis hangs (its log, its machine) or a firewall is in between",
        ),
        (
            redis.AuthenticationError("invalid username-password pair"),
            "correct the user and the password in REDIS_URL",
        ),
        (
            redis.exceptions.BusyLoadingError("Redis is loading the dataset in memory"),
            "wait: Redis is loading its data from disk (redis-cli INFO persistence shows how far)",
        ),
        (
            WrongForm("REDIS_URL leads to a node of a Redis Cluster"),
            "write REDIS_URL in the form that fits: redis://, redis+sentinel:// or redis+cluster://",
        ),
        (
            redis.ResponseError("DB index is out of range"),
            "correct the database number at the end of REDIS_URL",
        ),
        (
            redis.exceptions.NoPermissionError("no permissions to run 'ping'"),
            "redis-cli ACL SETUSER <user> '~{callbacks}:*' '~callbacks:*' +@all -@admin",
        ),
    ],
    ids=str,
)
def test_a_redis_that_cannot_be_used_is_a_failure_with_its_own_way_out(
    error: redis.RedisError, todo: str
) -> None:
    away = ("Connection refused", "not known", "CERTIFICATE", "Timeout reading")
    how = "no Redis at {}:" if any(word in str(error) for word in away) else "Redis at {} answers:"
    found = f"{how.format('redis://127.0.0.1:6379/0')} {str(error).rstrip('.')}"
    assert told(service_checks.unreached(settings(), error)) == (FAILURE, found, todo)


def test_an_encrypted_and_unverified_connection_is_reported() -> None:
    given = settings(redis_url="rediss://:hunter2@h:6380/1", redis_tls_verify="false")
    found = "answers at rediss://h:6380/1, encrypted, its certificate not verified"
    assert told(service_checks.reached(given)) == (OK, found, "")


# Workers, scheduler, balance


def work(*, changed: dict[str, Any] | None = None, **books: Any) -> Work:
    totals = dict.fromkeys(TOTALS, 0)
    owed = books.get("queued", 0) + books.get("processing", 0) + books.get("dead", 0)
    totals |= {"accepted": owed, "dead": books.get("dead", 0)} | books.pop("totals", {})
    empty: dict[str, Any] = {
        "now_ms": NOW_MS,
        "queued": 0,
        "processing": 0,
        "dead": 0,
        "sent_records": 0,
        "destinations_waiting": 0,
        "oldest_due_ms": None,
        "lock": "",
        "paused_since_ms": None,
        "next_batch_ms": None,
        "last_batch_ms": None,
        "data_since_ms": None,
        "data_lost_ms": None,
        "stagger_us": None,
        "stagger_why": "",
        "per_minute": {},
        "scheduled_ms": NOW_MS - 10_000,
    }
    overview = Overview(**(empty | {"totals": totals} | books))
    return replace(Work(overview, Survey(), 0, 0, 0, 0), **(changed or {}))


START = "run dramatiq callbacks --processes 2 --threads 64 --worker-shutdown-timeout 11000"
RESTART = "look for tick_failed in the log of the workers, and restart them"
AGAIN = "run this again: one may have just ended; if it persists, restart the workers"


@pytest.mark.parametrize(
    ("workers", "queued", "verdict", "found", "todo"),
    [
        (Workers(2, True), 5, OK, "2 processes at work, and one ticks every 3 s", ""),
        (Workers(1, None), 5, OK, "1 process at work", ""),
        (Workers(0, False), 0, WARNING, "no worker is running; nothing to send right now", START),
        (Workers(0, False), 2, FAILURE, "no worker is running; 2 callbacks not sent yet", START),
        (Workers(0, None), 1, FAILURE, "no worker is running; 1 callback not sent yet", START),
        (
            Workers(1, False),
            2,
            FAILURE,
            (
                "1 process on the queue, but none did its regular duties within 3 s; 2 callbacks"
                " not sent yet"
            ),
            RESTART,
        ),
        (
            Workers(0, True),
            0,
            WARNING,
            "a worker ticked within 3 s, but none fetches messages; nothing to send right now",
            AGAIN,
        ),
    ],
)
def test_workers_are_missed_most_where_something_waits(
    workers: Workers, queued: int, verdict: CheckStatus, found: str, todo: str
) -> None:
    check = service_checks.judge_workers(work(queued=queued), workers, Health("ok"), settings())
    assert told(check) == (verdict, found, todo)


@pytest.mark.parametrize(("polling", "todo"), [(0, START), (1, RESTART)])
def test_where_status_says_no_worker_the_check_fails_whatever_was_seen(
    polling: int, todo: str
) -> None:
    absent = Health("no worker", "the last was seen 2 min ago")
    check = service_checks.judge_workers(work(queued=1), Workers(polling, True), absent, settings())
    assert told(check) == (FAILURE, "no worker: the last was seen 2 min ago", todo)


def test_destinations_on_hold_without_a_secret_fail() -> None:
    held = {"unsigned": 2, "unsigned_why": "vault:secrets raised OSError"}
    assert told(service_checks.secrets(work(changed=held))) == (
        FAILURE,
        "callbacks for 2 destinations wait: vault:secrets raised OSError; they can only expire",
        "see what CALLBACKS_SECRET_RESOLVER does in the workers; sending resumes by itself",
    )
    assert service_checks.secrets(work()).verdict is OK


def test_a_missing_scheduler_is_only_a_warning() -> None:
    after = "; this delays nothing, because each worker checks by itself"
    do = "run periodiq callbacks"
    assert told(service_checks.scheduler(work())) == (OK, "seen 10 s ago", "")
    late = service_checks.scheduler(work(scheduled_ms=NOW_MS - 300_000))
    assert told(late) == (WARNING, f"last seen 5 min ago{after}", do)
    never = service_checks.scheduler(work(scheduled_ms=None))
    assert told(never) == (WARNING, f"never seen{after}", do)


def test_a_redis_that_lost_its_data_is_a_warning_for_a_day() -> None:
    lost = service_checks.balance(work(data_lost_ms=NOW_MS - 120_000))
    assert told(lost) == (
        WARNING,
        "they balance, but Redis lost its data, noticed 2 min ago",
        "enqueue again, with the same ids, what was accepted before; see persistence",
    )
    assert service_checks.balance(work(data_lost_ms=NOW_MS - 86_400_001)).verdict is OK


def test_totals_that_do_not_balance_fail() -> None:
    assert told(service_checks.balance(work(queued=2))) == (
        OK,
        "they balance: 2 accepted in total",
        "",
    )
    assert told(service_checks.balance(work(totals={"accepted": 3}))) == (
        FAILURE,
        "they do not balance by 3",
        "callbacks audit lists what is wrong; see whether Redis lost data (eviction, persistence)",
    )


def ready_since(ms: int) -> dict[str, Any]:
    return {"survey": Survey(7, ms)}


def test_what_is_held_may_wait() -> None:
    held = work(queued=7, changed={"survey": Survey(0, None, NOW_MS - 7_200_000)})
    found = "7 queued, the oldest held due for 2 h, 0 processing"
    assert told(service_checks.waiting(held, settings())) == (OK, found, "")


def test_waiting_work_is_judged_by_age_pause_and_limit() -> None:
    none = service_checks.waiting(work(), settings())
    assert told(none) == (OK, "0 queued, 0 processing", "")
    # The default max_delay of 5 s and drain target of 60 s make 65 s.
    young = work(queued=7, processing=1, changed=ready_since(NOW_MS - 65_000))
    found = "7 queued, the oldest ready due for 65 s, 1 processing"
    assert told(service_checks.waiting(young, settings())) == (OK, found, "")
    old = work(queued=7, changed=ready_since(NOW_MS - 66_000))
    assert told(service_checks.waiting(old, settings())) == (
        WARNING,
        "7 queued, the oldest ready due for 66 s, 0 processing",
        "callbacks destinations shows whether one is slow or all; if all, start more workers",
    )
    paused = work(queued=7, paused_since_ms=NOW_MS - 7_200_000)
    assert told(service_checks.waiting(paused, settings())) == (
        WARNING,
        "7 queued, 0 processing; everything is paused for 2 h",
        "callbacks resume",
    )
    assert told(service_checks.waiting(work(queued=7), settings(max_queued=7))) == (
        FAILURE,
        "7 queued, 0 processing: enqueue raises QueueFull",
        "see callbacks status; then raise CALLBACKS_MAX_QUEUED",
    )


def test_recent_deaths_are_a_warning_and_old_ones_are_not() -> None:
    old = service_checks.dead_letters(work(dead=9))
    assert told(old) == (OK, "0 within the last hour, 9 kept", "")
    new = service_checks.dead_letters(work(dead=9, dead_last_hour=4))
    assert told(new) == (
        WARNING,
        "4 within the last hour, 9 kept",
        "callbacks dead show --since 1h shows why; then callbacks dead replay --since 1h",
    )


def test_destinations_that_are_held_up_are_counted() -> None:
    fine = service_checks.destinations(work(changed={"destinations": 12}))
    assert told(fine) == (OK, "12 used within a day", "")
    held = service_checks.destinations(work(changed={"destinations": 12, "broken": 2, "paused": 1}))
    assert told(held) == (
        WARNING,
        "12 used within a day, 2 with an open breaker, 1 paused",
        "callbacks destinations shows which; callbacks resume DESTINATION resumes one now",
    )


def test_messages_that_failed_for_good_are_unexpected() -> None:
    fine = service_checks.messages(work(), settings())
    assert told(fine) == (OK, "none failed for good", "")
    check = service_checks.messages(
        work(changed={"failed_messages": 2}), settings(namespace="shop")
    )
    assert told(check) == (
        WARNING,
        "2 messages failed for good, which ours do not: another program or release uses the queue",
        (
            "see redis-cli HVALS shop:callbacks.XQ.msgs, then redis-cli DEL shop:callbacks.XQ"
            " shop:callbacks.XQ.msgs"
        ),
    )


@pytest.mark.parametrize(
    ("wait_for", "changed", "verdict", "found"),
    [
        ("", {"replicas": 0, "aof": False}, OK, "CALLBACKS_WAIT_FOR is empty"),
        ("aof", {"fsync": "always"}, OK, "enqueue waits for aof, 1 s at most"),
        ("aof", {}, WARNING, "appendfsync everysec may take longer"),
        ("aof", {"aof": False}, FAILURE, "appendonly is off: every enqueue raises NotDurable"),
        ("aof", {"name": "Redis", "version": "7.0.15"}, FAILURE, "Redis 7.0.15 has no WAITAOF"),
        ("replica", {"name": "Redis", "version": "6.2.5"}, OK, "enqueue waits for replica"),
        ("replica", {"replicas": 0}, FAILURE, "no replica is connected"),
        ("aof+replica", {"fsync": "always", "least_replicas": 0}, WARNING, "goes on accepting"),
    ],
)
def test_what_an_enqueue_waits_for_must_be_possible(
    wait_for: str, changed: dict[str, Any], verdict: CheckStatus, found: str
) -> None:
    check = durability(server(**{"replicas": 1, "least_replicas": 1} | changed), wait_for, 1.0)
    assert check.verdict is verdict
    assert found in check.found
    assert bool(check.todo) is (verdict is not OK)


# Sentinels and clusters

WATCHED = SentinelFacts(
    given=3, answering=3, known=3, primary="10.0.0.1:6379", others=2, quorum=2, replicas=2
)
SPREAD = ClusterFacts(primaries=("a:1", "b:2", "c:3"), alone=(), slots=16_384)


@pytest.mark.parametrize(
    ("changed", "verdict", "found", "todo"),
    [
        ({}, OK, "the primary is 10.0.0.1:6379, 2 replicas, 3 Sentinels, quorum 2", ""),
        ({"answering": 2}, WARNING, "2 of 3 Sentinels in REDIS_URL answer", "start the Sentinels"),
        ({"replicas": 0}, WARNING, "nothing could take over", "add a replica"),
        ({"others": 1}, WARNING, "; 2 Sentinels in all", "at least three"),
        ({"known": 0}, FAILURE, "none names a primary that is up", "the right MASTER"),
    ],
)
def test_sentinels_must_be_able_to_bring_about_a_failover(
    changed: dict[str, Any], verdict: CheckStatus, found: str, todo: str
) -> None:
    check = sentinels(replace(WATCHED, **changed))
    assert check.verdict is verdict
    assert found in check.found
    assert todo in check.todo


@pytest.mark.parametrize(
    ("changed", "verdict", "found"),
    [
        ({}, OK, "3 primaries, each with a replica"),
        ({"alone": ("b:2",)}, WARNING, "3 primaries; nothing could take over from b:2"),
        ({"slots": 16_000}, FAILURE, "3 primaries; 384 of 16,384 slots have none"),
        (
            {"all_stop": True},
            WARNING,
            "3 primaries, each with a replica; where both are away, the others stop, too",
        ),
    ],
)
def test_a_cluster_needs_all_slots_and_replicas(
    changed: dict[str, Any], verdict: CheckStatus, found: str
) -> None:
    check = whole_cluster(replace(SPREAD, **changed))
    assert (check.verdict, check.found) == (verdict, found)


def test_of_several_servers_the_worst_is_told_with_its_address() -> None:
    good, bad = (
        judge_server(each, NEAR, processes=2, per_process=4, alone=False)
        for each in (GOOD, server(policy="allkeys-lru", used=80 * MB))
    )
    merged = {check.name: check for check in worst_of({"a:1": good, "b:2": bad, "c:3": good})}
    assert "cluster" not in merged
    assert merged["eviction"].found.startswith("b:2: allkeys-lru")
    assert merged["memory"].verdict is WARNING
    assert merged["role"].found == "primary"
    assert worst_of({"": bad})[1:] == bad[1:]
