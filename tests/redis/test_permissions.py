"""A Redis user without the commands that managed services forbid: each duty does what it can."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator

import pytest
import redis
from click.testing import CliRunner
from dramatiq import Message
from dramatiq.errors import ConnectionClosed

import callbacks
from callbacks import runtime
from callbacks.batcher.audit import audit
from callbacks.batcher.client import connect
from callbacks.batcher.inspector import Inspector, find
from callbacks.batcher.keys import arrivals_channel
from callbacks.batcher.memory import read_memory
from callbacks.batcher.store import Batcher
from callbacks.cli.main import main
from callbacks.settings import load_settings
from callbacks.worker import duties
from callbacks.worker.broker import CallbacksBroker
from tests.conftest import forget_runtime
from tests.redis.support import backdate, begin, claim, claim_one, key, put, settle
from tests.redis.test_duties import Recorder
from tests.support.oldest import OLDEST
from tests.support.processes import REPO
from tests.support.server import Server, binaries

Make = Callable[..., Batcher]


@pytest.fixture
def restricted(client: redis.Redis, redis_url: str) -> Iterator[str]:
    """The URL of a user without the dangerous commands: INFO, KEYS, CONFIG, CLIENT LIST, ..."""
    client.execute_command("ACL", "SETUSER", "app", "on", ">pw", "~*", "&*", "+@all", "-@dangerous")
    yield redis_url.replace("redis://", "redis://app:pw@")
    client.execute_command("ACL", "DELUSER", "app")


@pytest.fixture
def batcher(make_batcher: Make, restricted: str) -> Batcher:
    duties._warn_of_unread_memory.cache_clear()
    made = make_batcher(redis_url=restricted, sent_max=2)
    with pytest.raises(redis.exceptions.NoPermissionError):
        made.scripts.client.info()
    return made


def test_no_duty_fails_and_records_are_trimmed_by_age_and_number(
    batcher: Batcher, client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    duties._warn_of_unread_memory.cache_clear()  # another test of this process may have been first
    for n in range(4):
        client.hdel(key("state"), "last_batch", "send", "slot")
        claimed = claim_one(batcher, f"c-{n}", f"https://h{n}.example:443")
        begin(batcher, claimed)
        settle(batcher, claimed)
    put(batcher, "old")
    client.zadd(key("expiry"), {"old": 1})
    duties.tick_once(batcher, Recorder(), chance=0)
    assert client.zcard(key("sent")) == 2
    backdate(client, "sent", "c-3", 90_000_000)
    duties.tick_once(batcher, Recorder(), chance=0)
    assert [find(batcher.scripts, f"c-{n}") is None for n in range(4)] == [True, True, False, True]
    died = find(batcher.scripts, "old")
    assert died is not None
    assert died.reason == "expired"
    assert list(audit(Inspector(batcher.scripts))) == []
    assert caplog.text.count("enqueue is not refused") == 1


def test_who_may_not_read_how_much_is_used_does_not_let_enqueues_in_again(
    batcher: Batcher, client: redis.Redis
) -> None:
    assert read_memory(batcher.scripts) is None
    batcher.admit(full=True)  # reported by a process that may
    duties.trim_once(batcher)
    assert client.hget(key("state"), "full") == b"1"


def test_the_brokers_duties_and_the_start_need_none_of_it(
    environment: Callable[..., None], restricted: str
) -> None:
    environment(REDIS_URL=restricted)
    assert runtime.broker.forget_dead_workers() == 0
    runtime.warn_of_eviction()
    runtime.tick()
    assert runtime.work_is_due() is False


def test_doctor_names_the_consequence(environment: Callable[..., None], restricted: str) -> None:
    environment(REDIS_URL=restricted)
    result = CliRunner().invoke(main, ["doctor", "--json"])
    (memory,) = [check for check in json.loads(result.stdout) if check["name"] == "memory"]
    assert memory["verdict"] == "warning"
    assert "enqueue is not refused before Redis itself refuses writes" in memory["found"]
    assert "+info" in memory["todo"]


# The least rights of docs/redis.md


def least_rights() -> list[str]:
    """The rule in the documentation, as words of ACL SETUSER."""
    page = (REPO / "docs" / "redis.md").read_text()
    (rule,) = re.findall(r"```text\nACL SETUSER callbacks on >password\n(.*?)```", page, re.DOTALL)
    return ["on", ">pw", *rule.split()]


def as_least(server: Server, words: list[str]) -> Iterator[str]:
    with server.client() as raw:
        raw.execute_command("ACL", "SETUSER", "least", "reset", *words)
        yield server.url.replace("redis://", "redis://least:pw@")
        denied = raw.execute_command("ACL", "LOG")
        raw.execute_command("ACL", "DELUSER", "least")
    reasons = {dict(zip(row[::2], row[1::2], strict=True))[b"object"] for row in denied}
    assert reasons <= {b"config", b"config|get"}, "what doctor does not need to read"


@pytest.mark.parametrize("binary", ["valkey", OLDEST])
def test_the_documented_rights_are_enough_and_none_is_denied(
    binary: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Server(binaries()[binary]).start()
    forget = forget_runtime()
    forget()  # what another test may have left
    users = as_least(server, least_rights())
    try:
        monkeypatch.setenv("REDIS_URL", next(users))
        monkeypatch.setenv("CALLBACKS_MAX_DELAY", "0")
        monkeypatch.setenv("CALLBACKS_MIN_INTERVAL", "0")  # `flush` comes right after a claim
        receipt = callbacks.enqueue("https://a.example/x", 1)
        many = callbacks.enqueue_many([{"callback_url": "https://b.example/x", "data": 1}] * 60)
        parts = runtime.runtime()
        (batcher,) = parts.batcher.shards
        batch = claim(batcher)
        go = begin(batcher, batch.callbacks[0])
        settle(batcher, batch.callbacks[0], attempt=go.attempt)
        batcher.release(batch.callbacks[1].id, batch.callbacks[1].token, 0)
        runtime._election.elect()
        runtime.tick()
        parts.messages.batch([(receipt.id, "token", 0), (receipt.id, "token", 60_000)])
        broker = runtime.broker
        for queue_name in ("callbacks", "callbacks.DQ"):
            consumer = broker.consume(queue_name)
            message = next(consumer)
            assert message is not None
            consumer.ack(message)
            consumer.close()
        broker.forget_dead_workers()
        assert runtime.work_is_due() in (True, False)
        with parts.client.pubsub() as told:
            told.subscribe(arrivals_channel("callbacks"))
        for words in (
            ["status"], ["show", receipt.id], ["list", "queued"], ["destinations"], ["audit"],
            ["pause"], ["resume"], ["pause", "https://a.example"], ["resume", "https://a.example"],
            ["cancel", many[-1].id], ["flush"], ["cleanup"], ["dead", "show"],
            ["dead", "replay", "--all"], ["dead", "purge", "--all"], ["log"], ["audit", "--repair"],
        ):  # fmt: skip
            result = CliRunner().invoke(main, words, catch_exceptions=False)
            assert result.exit_code == 0, (words, result.output)
        doctor = json.loads(CliRunner().invoke(main, ["doctor", "--json"]).stdout)
        assert {check["name"] for check in doctor if check["verdict"] == "failure"} <= {"workers"}
        next(users, None)
    finally:
        forget()
        server.stop()


@pytest.mark.parametrize("left_out", ["+eval", "~{callbacks}:*", "+@sortedset", "~callbacks:*"])
def test_each_of_the_documented_rights_is_needed(left_out: str, server: Server) -> None:
    words = [word for word in least_rights() if word != left_out]
    assert len(words) == len(least_rights()) - 1
    with server.client() as raw:
        raw.flushall()
        raw.script_flush()
        raw.execute_command("ACL", "SETUSER", "less", "reset", *words)
        try:
            settings = load_settings(
                {"REDIS_URL": server.url.replace("redis://", "redis://less:pw@")}
            )
            client = connect(settings)
            batcher = Batcher(client, settings)
            broker = CallbacksBroker(lambda: (client, "callbacks"), middleware=[])
            broker.declare_queue("callbacks")

            def use() -> None:
                put(batcher, "c-1", proven=False)
                broker.enqueue(Message("callbacks", "actor", (), {}, {}))

            with pytest.raises((redis.ResponseError, ConnectionClosed)):
                use()
            client.connection_pool.disconnect()
        finally:
            raw.execute_command("ACL", "DELUSER", "less")
