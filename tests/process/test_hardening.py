"""Each hardening of the broker, with the real fault that it is there for."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

import callbacks
from callbacks.memory import read_memory
from tests.process.conftest import System
from tests.support.processes import until
from tests.support.target import Target

Enqueue = Callable[..., None]
FAST = {"max_delay": 0.2, "check_interval": 0.5, "min_interval": 0.05}


def test_a_restart_of_redis_in_mid_batch_strands_nothing_and_needs_no_hand(
    system: System, enqueue: Enqueue
) -> None:
    system.configure(**FAST, send_interval=0.05, destination_interval=0)
    with Target() as target:
        workers = system.groups.worker()
        enqueue(target.url, 150)
        until(lambda: len(target.hits) >= 30, within=20)
        client = system.batcher.scripts.client
        until(lambda: client.llen("callbacks:callbacks.DQ") == 0, within=5)
        system.server.kill()
        time.sleep(3)
        system.server.start()
        until(system.settled, within=60)
        assert workers.process.poll() is None
        acks = [k for k in client.keys("callbacks:__acks__*") if k.endswith(b".DQ")]
        until(lambda: not any(client.scard(k) for k in acks), within=15)
    assert len(target.counts()) == 150
    assert system.audit() == []


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
    system: System, enqueue: Enqueue
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
        for id, data in garbage.items():  # in the delay queue those are in the wrong place, too
            client.hset(f"{queue}.msgs", id, data)
            client.rpush(queue, id)
    with Target() as target:
        workers = system.groups.worker(processes=1)
        enqueue(target.url, 50)
        until(system.settled, within=30)
        until(lambda: acknowledged(client), within=15)
    assert set(target.counts().values()) == {1}
    assert "message_dropped" in workers.output
    assert client.hlen("callbacks:callbacks.XQ.msgs") == 0
    for queue in ("callbacks", "callbacks.DQ"):
        assert not set(client.hkeys(f"callbacks:{queue}.msgs")) & {id.encode() for id in garbage}


def acknowledged(client: redis.Redis) -> bool:
    """Nothing is held; in the delay queue only the retry of the message with wrong arguments."""
    held = {key: client.scard(key) for key in client.keys("*__acks__*")}
    return all(n <= key.endswith(b".DQ") for key, n in held.items())


def test_idle_workers_ask_redis_little_and_never_for_all_keys(system: System) -> None:
    system.configure(check_interval=1)
    workers = system.groups.worker(threads=64)
    client = system.batcher.scripts.client
    until(lambda: client.zcard("callbacks:__heartbeats__") == 2, within=20)
    time.sleep(2)
    client.config_resetstat()
    time.sleep(5)
    stats = client.info("commandstats")
    calls = {name.removeprefix("cmdstat_"): row["calls"] for name, row in stats.items()}
    assert "keys" not in calls
    per_second = calls["evalsha"] / 5
    assert 30 <= per_second <= 85, calls  # 2 processes, 2 consumers, every 50 and every 100 ms
    assert workers.process.poll() is None


def test_messages_of_dead_workers_are_cleared_up(system: System, enqueue: Enqueue) -> None:
    system.configure(**FAST)
    client = system.batcher.scripts.client
    long_ago = int(time.time() * 1000) - 61_000
    client.zadd("callbacks:__heartbeats__", {"dead": long_ago})
    for queue in ("callbacks", "callbacks.DQ"):
        client.sadd(f"callbacks:__acks__.dead.{queue}", "m-1", "m-2")
        client.hset(f"callbacks:{queue}.msgs", mapping={"m-1": "x", "m-2": "x"})
    system.groups.worker(processes=1)
    until(lambda: client.zscore("callbacks:__heartbeats__", "dead") is None, within=20)
    assert not client.exists("callbacks:__acks__.dead.callbacks", "callbacks:callbacks.DQ.msgs")


def test_the_scheduler_outlives_an_outage_of_redis(system: System) -> None:
    system.configure(redis_timeout=0.3)
    system.server.kill()
    scheduler = system.groups.scheduler()
    until(lambda: "tick_lost" in scheduler.output, within=20)
    assert scheduler.process.poll() is None
    assert scheduler.output.count("tick_lost") == 2
    system.server.start()


def test_a_worker_started_while_redis_is_away_begins_when_it_comes(
    system: System, enqueue: Enqueue
) -> None:
    system.configure(**FAST, redis_timeout=0.3)
    system.server.kill()
    workers = system.groups.worker()
    time.sleep(3)
    assert workers.process.poll() is None
    assert len(workers.output.splitlines()) < 100
    system.server.start()
    with Target() as target:
        enqueue(target.url, 5)
        until(lambda: len(target.hits) == 5, within=20)


def test_every_message_lost_in_mid_run_costs_seconds_and_nothing_else(
    system: System, enqueue: Enqueue
) -> None:
    system.configure(**FAST, send_interval=0.02, destination_interval=0)
    client = system.batcher.scripts.client
    with Target() as target:
        system.groups.worker()
        enqueue(target.url, 150)
        while len(target.counts()) < 150:
            doomed = client.keys("callbacks:callbacks*")
            if doomed:
                client.delete(*doomed)
            time.sleep(0.3)
            assert len(target.hits) < 200
        until(system.settled, within=20)
    assert set(target.counts().values()) == {1}
    assert system.audit() == []


def test_every_message_three_times_is_one_request_each(system: System, enqueue: Enqueue) -> None:
    system.configure(**FAST, send_interval=0.02, destination_interval=0)
    client = system.batcher.scripts.client
    with Target() as target:
        enqueue(target.url, 60)
        workers = system.groups.worker()
        copied: set[bytes] = set()
        give_up = time.monotonic() + 30
        while not system.settled():
            assert time.monotonic() < give_up
            for id, data in client.hgetall("callbacks:callbacks.msgs").items():
                if b"send_single" in data and id not in copied:
                    for n in (2, 3):
                        twin = f"{id.decode()}-{n}"
                        copied.add(twin.encode())
                        client.hset(
                            "callbacks:callbacks.msgs", twin, data.replace(id, twin.encode())
                        )
                        client.rpush("callbacks:callbacks", twin)
                    copied.add(id)
            time.sleep(0.005)
        assert workers.process.poll() is None
    assert copied, "no message was there to copy"
    assert set(target.counts().values()) == {1}
    assert system.overview().totals["attempts"] == 60


def test_a_wrong_setting_stops_a_worker_with_one_line(system: System) -> None:
    worker = system.groups.worker(CALLBACKS_BATCH_SIZE="many")
    assert worker.wait(20) != 0
    lines = [line for line in worker.output.splitlines() if "CALLBACKS_BATCH_SIZE" in line]
    assert lines
    assert "Traceback" not in worker.output
    assert "many" in lines[0]


def test_an_actor_for_the_dead_that_is_not_there_is_told_at_start(system: System) -> None:
    worker = system.groups.worker(processes=1, CALLBACKS_ON_DEAD="nobody")
    until(lambda: "no actor 'nobody' here" in worker.output, within=20)


def test_the_application_is_told_of_each_death(
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
    time.sleep(1.5)  # deaths are told of from the first tick on
    with Target(lambda hit, nth: 404) as target:
        enqueue(target.url, 3)
        until((tmp_path / "deaths").exists, within=20)
        until(lambda: len((tmp_path / "deaths").read_text().splitlines()) >= 3, within=10)
    told = sorted((tmp_path / "deaths").read_text().splitlines())
    assert told == [f"c-{n} client_error" for n in range(3)]


def test_a_misspelt_setting_is_reported_with_the_nearest_name(system: System) -> None:
    worker = system.groups.worker(CALLBACKS_BATCHSIZE="5")
    until(lambda: "CALLBACKS_BATCH_SIZE" in worker.output, within=20)


def test_client_connections_stay_within_the_limit_of_each_process(
    system: System, enqueue: Enqueue
) -> None:
    system.configure(**FAST, send_interval=0, destination_interval=0, destination_concurrency=0)
    client = system.batcher.scripts.client
    with Target() as target:
        enqueue(target.url, 2_000)
        mine, most = len(client.client_list()), 0
        system.groups.scheduler()
        system.groups.worker(threads=64)  # 2 processes, as in the Procfile
        while len(target.hits) < 2_000:
            most = max(most, len(client.client_list()) - mine)
            time.sleep(0.02)
    assert 3 <= most <= 2 * 4 + 1


def test_a_full_redis_refuses_new_callbacks_and_delivers_the_old_ones(
    system: System, enqueue: Enqueue
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
        until(lambda: not client.hexists("{callbacks}:state", "full"), within=10)
        assert callbacks.enqueue(target.url, 1).accepted
        until(lambda: len(target.counts()) == 121, within=10)
    assert system.audit() == []
