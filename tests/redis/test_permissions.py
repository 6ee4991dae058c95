"""A Redis user without the commands that managed services forbid: each duty does what it can."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest
import redis
from click.testing import CliRunner

from callbacks import runtime
from callbacks.batcher.audit import audit
from callbacks.batcher.inspector import Inspector, find
from callbacks.batcher.memory import read_memory
from callbacks.batcher.store import Batcher
from callbacks.cli.main import main
from callbacks.worker import duties
from tests.redis.support import backdate, begin, claim_one, key, put, settle
from tests.redis.test_duties import Recorder

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
    for n in range(4):
        client.hdel(key("state"), "last_batch", "send", "slot")
        claimed = claim_one(batcher, f"c-{n}", f"https://h{n}.example:443")
        begin(batcher, claimed)
        settle(batcher, claimed)
    put(batcher, "old")
    client.zadd(key("expiry"), {"old": 1})
    also: list[str] = []
    duties.tick_once(batcher, Recorder(), chance=0, more=[lambda: also.append("done")])
    assert client.zcard(key("sent")) == 2
    backdate(client, "sent", "c-3", 90_000_000)
    duties.tick_once(batcher, Recorder(), chance=0)
    assert [find(batcher.scripts, f"c-{n}") is None for n in range(4)] == [True, True, False, True]
    died = find(batcher.scripts, "old")
    assert died is not None
    assert died.reason == "expired"
    assert also == ["done"]
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
