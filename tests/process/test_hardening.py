"""Each hardening of the broker, with the real fault it is for."""

from __future__ import annotations

import json
import re
import signal
import time
from collections import Counter
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest
import redis

import callbacks
from callbacks.batcher.memory import read_memory
from tests.process.conftest import System
from tests.process.faults import (
    BOTH_KINDS,
    Enqueue,
    Note,
    consumers,
    lines,
    minute_in,
    module,
    ready,
)
from tests.process.test_web import get, listening
from tests.support.again import Again
from tests.support.processes import until
from tests.support.refusals import Refusals
from tests.support.target import Hit, Target

FAST = {"max_delay": 0.2, "check_interval": 0.5, "min_interval": 0.05}
AWAY_S = 8
DROPPED = re.compile(r"event=message_dropped queue=(\S+)")


@BOTH_KINDS
def test_a_restart_of_redis_in_mid_batch_strands_nothing_and_needs_no_hand(
    system: System, enqueue: Enqueue, record_property: Note
) -> None:
    system.configure(**FAST, send_interval=0.05, destination_interval=0)
    with Target() as target:
        workers = system.groups.worker()
        enqueue(target.url, 150)
        until(lambda: len(target.hits) >= 30, within=20)
        client = system.batcher.scripts.client
        until(lambda: client.llen("callbacks:callbacks.DQ") == 0, within=5)
        said = lines(workers)
        system.server.kill()
        with Refusals(system.server.port) as refused:
            time.sleep(AWAY_S)
        said = lines(workers) - said
        record_property("lines while away", said)
        record_property("connections a second while away", round(refused.count / AWAY_S, 1))
        # Consumers retry every 3 s, a thread with something to settle five times a second.
        assert 0 < refused.count <= 100 * AWAY_S
        assert said <= 40
        system.server.start()
        until(system.settled, within=60)
        assert workers.process.poll() is None
        acks = [k for k in client.keys("callbacks:__acks__*") if k.endswith(b".DQ")]
        until(lambda: not any(client.scard(k) for k in acks), within=15)
    assert len(target.counts()) == 150
    assert system.audit() == []


@BOTH_KINDS
def test_a_stall_of_redis_longer_than_its_timeout_leaves_every_thread_alive(
    system: System, enqueue: Enqueue
) -> None:
    system.configure(**FAST, redis_timeout=0.5, destination_interval=0, send_interval=0.05)
    with Target() as target:
        workers = system.groups.worker()
        enqueue(target.url, 100)
        until(lambda: len(target.hits) >= 20, within=20)
        system.server.signal(signal.SIGSTOP)
        time.sleep(4)
        system.server.signal(signal.SIGCONT)
        enqueue(target.url, 20, start=100)
        until(system.settled, within=60)
        assert workers.process.poll() is None
    assert len(target.counts()) == 120
    assert system.audit() == []


def test_garbage_on_the_queue_is_dropped_and_strands_nobody(
    system: System, enqueue: Enqueue, record_property: Note
) -> None:
    system.configure(**FAST, destination_interval=0, send_interval=0)
    client = system.batcher.scripts.client
    unknown = {
        "queue_name": "callbacks",
        "actor_name": "of_an_older_release",
        "args": [],
        "kwargs": {},
        "options": {"redis_message_id": "m-unknown"},
        "message_id": "m",
        "message_timestamp": 1,
    }
    wrong_arguments = unknown | {
        "actor_name": "send_single_callback",
        "args": ["c-0"],
        "options": {"redis_message_id": "m-args"},
    }
    garbage = {
        "m-json": b"{not json",
        "m-list": b"[1, 2]",
        "m-bare": b'{"queue_name": "callbacks"}',
        "m-unknown": json.dumps(unknown).encode(),
        "m-args": json.dumps(wrong_arguments).encode(),
    }
    for queue in ("callbacks:callbacks", "callbacks:callbacks.DQ"):
        for id, data in garbage.items():  # in the delay queue, too, those are in the wrong place
            client.hset(f"{queue}.msgs", id, data)
            client.rpush(queue, id)
    with Target() as target:
        workers = system.groups.worker(processes=1)
        enqueue(target.url, 50)
        record_property("s until the last", round(until(system.settled, within=30), 1))
        until(lambda: acknowledged(client), within=15)
    assert set(target.counts().values()) == {1}
    dropped = Counter(DROPPED.findall(workers.output))
    # Wrong arguments are a failure like any other: Dramatiq retries, then gives up.
    assert dropped == {"callbacks": len(garbage) - 1, "callbacks.DQ": len(garbage)}
    assert client.hlen("callbacks:callbacks.XQ.msgs") == 0
    for queue in ("callbacks", "callbacks.DQ"):
        assert not set(client.hkeys(f"callbacks:{queue}.msgs")) & {id.encode() for id in garbage}


def acknowledged(client: redis.Redis) -> bool:
    """Nothing is held; the delay queue has only the retry of the message with wrong arguments."""
    held = {key: client.scard(key) for key in client.keys("*__acks__*")}
    return all(n <= key.endswith(b".DQ") for key, n in held.items())


def test_idle_workers_ask_redis_little_and_never_for_all_keys(
    system: System, record_property: Note
) -> None:
    workers = system.groups.worker(threads=64)
    client = system.batcher.scripts.client
    until(lambda: client.zcard("callbacks:__heartbeats__") == 2, within=20)
    time.sleep(2)
    client.config_resetstat()
    time.sleep(10)
    stats = client.info("commandstats")
    calls = {name.removeprefix("cmdstat_"): row["calls"] for name, row in stats.items()}
    assert "keys" not in calls
    per_minute = 6 * sum(calls.values())
    record_property("commands a minute, those in scripts too", per_minute)
    assert per_minute <= 3_000, calls
    assert workers.process.poll() is None


def test_messages_of_dead_workers_are_cleared_up(
    system: System, enqueue: Enqueue, tmp_path: Path
) -> None:
    system.configure(**FAST)
    client = system.batcher.scripts.client
    in_an_hour = int(time.time() * 1000) + 3_600_000  # whatever its own clock says
    client.zadd("callbacks:__heartbeats__", {"dead": in_an_hour})
    for queue in ("callbacks", "callbacks.DQ"):
        client.sadd(f"callbacks:__acks__.dead.{queue}", "m-1", "m-2")
        client.hset(f"callbacks:{queue}.msgs", mapping={"m-1": "x", "m-2": "x"})
    code = "from callbacks import runtime\nruntime.broker._heartbeats._patience_s = 2\n"
    code += "runtime._IDLE_S = 1  # else it would take half a minute more\n"
    system.groups.worker(processes=1, modules=[module(tmp_path, "impatient", code)])
    until(lambda: client.zscore("callbacks:__heartbeats__", "dead") is None, within=20)
    assert not client.exists("callbacks:__acks__.dead.callbacks", "callbacks:callbacks.DQ.msgs")


def test_a_scheduler_and_workers_started_while_redis_is_away_begin_when_it_comes(
    system: System, enqueue: Enqueue, tmp_path: Path, record_property: Note
) -> None:
    system.configure(**FAST, redis_timeout=0.3)
    client = system.batcher.scripts.client
    system.server.kill()
    with Refusals(system.server.port) as refused:
        scheduler = system.groups.scheduler(**minute_in(tmp_path, 40))
        workers = system.groups.worker()
        until(lambda: scheduler.output.count("tick_lost") == 2, within=20)
        ready(workers)
        time.sleep(5)
    record_property("lines of workers while away", lines(workers))
    record_property("connections while away", refused.count)
    assert 0 < refused.count <= 300
    assert lines(workers) <= 40
    assert scheduler.process.poll() is None
    assert workers.process.poll() is None
    system.server.start()
    with Target() as target:
        enqueue(target.url, 5)
        came = until(lambda: len(target.hits) == 5, within=20)
        record_property("s until the workers had sent", round(came, 1))
        assert not client.hexists("{callbacks}:state", "scheduled"), "its minute came too early"
        until(lambda: bool(client.hexists("{callbacks}:state", "scheduled")), within=45)
        until(system.settled, within=10)
        assert len(consumers(system)) == 4
    assert scheduler.output.count("tick_lost") == 2
    assert scheduler.process.poll() is None
    assert system.audit() == []


def test_every_key_of_dramatiq_deleted_again_and_again_costs_seconds_and_nothing_else(
    system: System, enqueue: Enqueue, record_property: Note
) -> None:
    """Messages, acknowledgements and heartbeats: all keys but the batcher's."""
    system.configure(**FAST, send_interval=0.02, destination_interval=0)
    client = system.batcher.scripts.client
    gone: set[bytes] = set()
    with Target() as target:
        workers = system.groups.worker()
        enqueue(target.url, 150)
        began = time.monotonic()
        while len(target.counts()) < 150:
            doomed = client.keys("callbacks:*")
            if doomed:
                client.delete(*doomed)
            gone.update(doomed)
            time.sleep(0.3)
            assert len(target.hits) < 200
        until(system.settled, within=20)
        record_property("s for 150 that need 3", round(time.monotonic() - began, 1))
        assert workers.process.poll() is None
        assert len(consumers(system)) == 4
    for kind in (b"callbacks:callbacks", b"callbacks:__acks__", b"callbacks:__heartbeats__"):
        assert any(key.startswith(kind) for key in gone), f"no {kind!r} was there to delete"
    assert set(target.counts().values()) == {1}
    assert system.audit() == []


def test_every_message_three_times_is_one_request_an_attempt(
    system: System, enqueue: Enqueue, tmp_path: Path, record_property: Note
) -> None:
    system.configure(**FAST, send_interval=0.02, destination_interval=0, retry_increment=0.3)
    calls = tmp_path / "calls"
    tripled = module(
        tmp_path,
        "tripled",
        "from callbacks import actors\n"
        "from callbacks.runtime import broker\n"
        "def thrice(enqueue):\n"
        "    def again(*args, **more):\n"
        "        return [enqueue(*args, **more) for _ in range(3)][-1]\n"
        "    return again\n"
        "broker.enqueue = thrice(broker.enqueue)\n"
        "broker.enqueue_many = thrice(broker.enqueue_many)\n"
        "send = actors.send_once\n"
        "def noted(*args, **more):\n"
        f"    with open({str(calls)!r}, 'a') as file:\n"
        "        print(*args[3:], file=file)\n"
        "    return send(*args, **more)\n"
        "actors.send_once = noted\n",
    )

    def third_fails_first(hit: Hit, nth: int) -> int:
        return 503 if nth == 1 and int(hit.id[2:]) % 3 == 0 else 200

    with Target(third_fails_first) as target:
        workers = system.groups.worker(modules=[tripled])
        ready(workers)
        enqueue(target.url, 60)
        record_property("s for 80 that need 1.6", round(until(system.settled, within=30), 1))
        until(lambda: quiet(system), within=15)
        assert workers.process.poll() is None
    claims = Counter(calls.read_text().splitlines())
    assert len({line.split()[0] for line in claims}) == 60
    assert min(claims.values()) >= 3, "a message came less than three times"
    assert target.counts() == {f"c-{n}": 1 + (n % 3 == 0) for n in range(60)}
    totals = system.overview().totals
    assert (totals["sent"], totals["attempts"], totals["retried"]) == (60, 80, 20)
    assert system.audit() == []


def quiet(system: System) -> bool:
    """Whether no message is left, neither waiting nor held by a worker."""
    client = system.batcher.scripts.client
    return not any(client.hlen(f"callbacks:callbacks{queue}.msgs") for queue in ("", ".DQ"))


def test_a_wrong_setting_stops_a_worker_with_one_line(system: System) -> None:
    worker = system.groups.worker(CALLBACKS_BATCH_SIZE="many")
    assert worker.wait(20) != 0
    lines = [line for line in worker.output.splitlines() if "CALLBACKS_BATCH_SIZE" in line]
    assert lines
    assert "Traceback" not in worker.output
    assert "many" in lines[0]


def test_the_application_is_notified_of_each_death(
    system: System, enqueue: Enqueue, tmp_path: Path
) -> None:
    (tmp_path / "shop.py").write_text(
        "import dramatiq\n"
        "@dramatiq.actor\n"
        "def mourn(callback_id, reason):\n"
        f"    with open({str(tmp_path / 'deaths')!r}, 'a') as file:\n"
        "        print(callback_id, reason, file=file)\n"
    )
    system.configure(**FAST, on_dead="mourn", destination_interval=0)
    until_ready = system.groups.worker(processes=1, modules=["shop"])
    until(lambda: "ready for action" in until_ready.output, within=20)
    time.sleep(1.5)  # deaths are reported from the first tick on
    with Target(lambda hit, nth: 404) as target:
        enqueue(target.url, 3)
        until((tmp_path / "deaths").exists, within=20)
        until(lambda: len((tmp_path / "deaths").read_text().splitlines()) >= 3, within=10)
    told = sorted((tmp_path / "deaths").read_text().splitlines())
    assert told == [f"c-{n} client_error" for n in range(3)]


def test_a_misspelt_setting_is_reported_with_the_nearest_name(system: System) -> None:
    worker = system.groups.worker(CALLBACKS_BATCHSIZE="5")
    until(lambda: "CALLBACKS_BATCH_SIZE" in worker.output, within=20)


def test_the_processes_of_the_procfile_stay_within_twelve_connections_under_load(
    system: System, enqueue: Enqueue, record_property: Note
) -> None:
    system.configure(**FAST, send_interval=0, destination_interval=0, destination_concurrency=0)
    client = system.batcher.scripts.client
    with Target() as target:
        enqueue(target.url, 2_000)
        mine, most = len(client.client_list()), 0
        address = listening(system.groups.web())
        system.groups.scheduler()
        system.groups.worker(threads=64)  # 2 processes, as in the Procfile
        with ExitStack() as lookers:
            for path in ("/", "/metrics", "/healthz"):
                looker = lookers.enter_context(Again(partial(get, address, path), every=0.02))
            while len(target.hits) < 2_000:
                most = max(most, len(client.client_list()) - mine)
                time.sleep(0.02)
        assert looker.times >= 10
        assert get(address, "/healthz")[0] == 200
    record_property("connections at most", most)
    # Four per worker process, one each for the scheduler and `web`, and one per watchdog.
    assert 4 <= most <= 12


def test_a_full_redis_refuses_new_callbacks_and_delivers_the_old_ones(
    system: System, enqueue: Enqueue, record_property: Note
) -> None:
    system.configure(**FAST, send_interval=0.02, destination_interval=0)
    client = system.batcher.scripts.client
    with Target() as target:
        enqueue(target.url, 120)
        client.config_set("maxmemory", int(read_memory(system.batcher.scripts).used * 0.9))
        system.groups.worker(processes=1)
        until(lambda: len(target.counts()) == 120, within=30)
        until(system.settled, within=10)
        with pytest.raises(callbacks.QueueFull):
            callbacks.enqueue(target.url, 1)
        client.config_set("maxmemory", 0)
        open_again = until(lambda: not client.hexists("{callbacks}:state", "full"), within=10)
        record_property("s until enqueues are let in", round(open_again, 1))
        assert callbacks.enqueue(target.url, 1).accepted
        until(lambda: len(target.counts()) == 121, within=10)
    assert system.audit() == []
