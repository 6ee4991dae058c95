"""The public API: enqueue, enqueue_many, cancel, get_status, and bad input."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis

import callbacks
from callbacks import api
from callbacks.request.freeze import unpack
from tests.redis.support import everything, key
from tests.support.processes import until
from tests.support.server import Server, binaries

Environment = Callable[..., None]
URL = "https://customer.example/hooks/ai"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def stored(client: redis.Redis, id: str) -> Any:
    return unpack(client.get(key(f"cb:{id}")))


def test_what_is_enqueued_can_be_followed_and_cancelled(
    environment: Environment, client: redis.Redis
) -> None:
    receipt = callbacks.enqueue(
        URL, {"task_id": "t-1"}, event="image.completed", headers={"x-tenant": "7"}
    )
    assert receipt.accepted
    status = callbacks.get_status(receipt.id)
    assert status is not None
    assert (status.state, status.attempts, status.destination) == (
        "queued",
        0,
        "https://customer.example:443",
    )
    assert status.next_attempt_at is not None
    assert stored(client, receipt.id).headers == (("x-tenant", "7"),)
    assert callbacks.cancel(receipt.id)
    assert callbacks.cancel(receipt.id)  # its first answer may have been lost
    assert callbacks.get_status("unknown") is None


def test_an_id_of_the_callers_own_makes_the_call_idempotent(environment: Environment) -> None:
    assert callbacks.enqueue(URL, 1, id="t-1") == callbacks.Receipt("t-1", True)
    assert callbacks.enqueue(URL, 1, id="t-1") == callbacks.Receipt("t-1", False)


def test_a_known_id_with_another_url_or_other_data_is_a_conflict(
    environment: Environment, client: redis.Redis
) -> None:
    data, other = {"n": 1, "text": "é"}, {"n": 2}
    callbacks.enqueue(URL, data, id="t-1", event="a", environment="staging")

    def conflict(url: str = URL, data: object = data, event: str = "a", **more: Any) -> bool:
        given = {"id": "t-1", "event": event, "environment": "staging"} | more
        (receipt,) = callbacks.enqueue_many([{"callback_url": url, "data": data, **given}])
        assert not receipt.accepted
        assert receipt == callbacks.enqueue(url, data, **given)
        return receipt.conflict

    def conflicts() -> list[bool]:
        return [
            conflict(),
            conflict(headers={"X-A": "1"}, lane="l", delay=5),  # are not what is told
            conflict(f"{URL}?x=1"),
            conflict(data=other),
            conflict(event="b"),
            conflict(environment="production"),
        ]

    expected = [False, False, True, True, True, True]
    assert conflicts() == expected
    assert callbacks.cancel("t-1")
    assert not client.exists(key("cb:t-1"))
    assert conflicts() == expected
    client.hdel(key("rec:t-1"), "v")  # an older release ended it
    assert conflicts() == [False] * 6


def test_times_are_given_as_in_the_commands(environment: Environment) -> None:
    at = datetime.now(UTC) + timedelta(minutes=10)
    for n, delay in enumerate((600, 600.0, "600", "10m", timedelta(minutes=10), at, str(at))):
        callbacks.enqueue(URL, 1, id=f"t-{n}", delay=delay, expires_in="2h")
        status = callbacks.get_status(f"t-{n}")
        assert status is not None
        assert status.next_attempt_at == pytest.approx(at.timestamp(), abs=30)
        assert status.expires_at == pytest.approx(at.timestamp() + 6_600, abs=30)


def test_many_are_stored_when_the_call_returns(
    environment: Environment, client: redis.Redis
) -> None:
    items = [{"callback_url": URL, "data": n, "id": f"t-{n}"} for n in range(1200)]
    receipts = callbacks.enqueue_many(items)
    assert [r.id for r in receipts] == [f"t-{n}" for n in range(1200)]
    assert all(r.accepted for r in receipts)
    assert client.zcard(key("expiry")) == 1200


def test_what_was_stored_before_the_queue_was_full_is_reported(
    environment: Environment, client: redis.Redis
) -> None:
    environment(CALLBACKS_MAX_QUEUED=3)
    items = [{"callback_url": URL, "data": n, "id": f"t-{n}"} for n in range(5)]
    with pytest.raises(callbacks.QueueFull, match="3 callbacks wait") as caught:
        callbacks.enqueue_many(items)
    assert [receipt.id for receipt in caught.value.receipts] == ["t-0", "t-1", "t-2"]
    assert client.zcard(key("expiry")) == 3
    assert client.llen("callbacks:callbacks.DQ") == 1  # something is woken for them


BAD = [
    ("callback_url", {"callback_url": "ftp://a.example/x"}),
    ("callback_url", {"callback_url": "https:///x"}),
    ("callback_url", {"callback_url": "https://me:pw@a.example/x"}),
    ("callback_url", {"callback_url": "https://a.example/\n"}),
    ("callback_url", {"callback_url": "https://a.example:70000/"}),
    ("callback_url", {"callback_url": "https://a.example/" + "x" * 2048}),
    ("callback_url", {"callback_url": None}),
    ("data", {"data": object()}),
    ("data", {"data": math.nan}),
    ("data", {"data": "x" * 300_000}),
    ("id", {"id": ""}),
    ("id", {"id": "x" * 129}),
    ("id", {"id": "a b"}),
    ("event", {"event": ""}),
    ("environment", {"environment": "no spaces"}),
    ("headers", {"headers": {"x-a": "1\r\nx-b: 2"}}),
    ("headers", {"headers": {"x a": "1"}}),
    ("headers", {"headers": {"webhook-id": "1"}}),
    ("headers", {"headers": {"Content-Type": "1"}}),
    ("headers", {"headers": {"host": "b"}}),
    ("lane", {"lane": ""}),
    ("expires_in", {"expires_in": 0}),
    ("expires_in", {"expires_in": -1}),
    ("expires_in", {"expires_in": math.inf}),
    ("expires_in", {"expires_in": math.nan}),
    ("expires_in", {"expires_in": "soon"}),
    ("delay", {"delay": -0.5}),
    ("delay", {"delay": True}),
    ("delay", {"delay": 60, "expires_in": 60}),
    ("delay", {"delay": 90_000}),
]


@pytest.mark.parametrize(("field", "bad"), BAD)
def test_bad_input_is_refused_by_the_name_of_its_field_and_nothing_is_stored(
    environment: Environment, client: redis.Redis, field: str, bad: dict[str, Any]
) -> None:
    item = {"callback_url": URL, "data": 1} | bad
    with pytest.raises(callbacks.InvalidCallback) as caught:
        callbacks.enqueue(**item)
    assert str(caught.value).startswith(field)
    assert isinstance(caught.value, ValueError)
    with pytest.raises(callbacks.InvalidCallback) as caught:
        callbacks.enqueue_many([{"callback_url": URL, "data": 1}, item])
    assert str(caught.value).startswith(f"[1].{field}")
    assert everything(client) == {}


@pytest.mark.parametrize(
    ("item", "field"),
    [
        ({"data": 1}, "callback_url"),
        ({"callback_url": URL}, "data"),
        ({"callback_url": URL, "data": 1, "url": 2}, "url"),
        ("not a mapping", "item"),
    ],
)
def test_an_item_of_many_that_is_incomplete_is_refused(
    environment: Environment, item: Any, field: str
) -> None:
    with pytest.raises(callbacks.InvalidCallback) as caught:
        callbacks.enqueue_many([item])
    assert str(caught.value).startswith(f"[0].{field}")


def test_where_secrets_are_configured_an_environment_without_one_is_refused(
    environment: Environment,
) -> None:
    environment(CALLBACKS_SECRET_STAGING=SECRET)
    assert callbacks.enqueue(URL, 1, environment="staging").accepted
    with pytest.raises(callbacks.InvalidCallback, match="no secret is configured"):
        callbacks.enqueue(URL, 1, environment="production")


@pytest.mark.parametrize("path", ["no_such_module:find", "tests.redis.test_duties:no_such_name"])
def test_a_resolver_that_cannot_be_loaded_is_a_wrong_setting(
    environment: Environment, client: redis.Redis, path: str
) -> None:
    environment(CALLBACKS_SECRET_RESOLVER=path)
    with pytest.raises(callbacks.SettingsError, match=r"CALLBACKS_SECRET_RESOLVER: .+ cannot be"):
        callbacks.enqueue(URL, 1)
    assert client.zcard(key("expiry")) == 0


@pytest.mark.parametrize(
    ("resolver", "accepted"), [("broken_resolver", True), ("empty_resolver", False)]
)
def test_a_resolver_that_knows_no_secret_refuses_and_one_that_fails_is_asked_again_at_the_send(
    environment: Environment, resolver: str, accepted: bool
) -> None:
    environment(CALLBACKS_SECRET_RESOLVER=f"tests.redis.test_duties:{resolver}")
    if accepted:
        assert callbacks.enqueue(URL, 1).accepted
    else:
        with pytest.raises(callbacks.InvalidCallback, match="no secret"):
            callbacks.enqueue(URL, 1)


@pytest.mark.parametrize("call", [callbacks.cancel, callbacks.get_status])
@pytest.mark.parametrize("id", [None, 5, "", "no spaces"])
def test_what_can_be_no_id_is_refused_by_name(
    environment: Environment, call: Callable[[Any], object], id: object
) -> None:
    with pytest.raises(callbacks.InvalidCallback) as caught:
        call(id)
    assert caught.value.field == "id"


def test_a_lane_is_a_destination_of_its_own(environment: Environment) -> None:
    ids = [callbacks.enqueue(URL, 1, lane=lane).id for lane in ("a", "b", None)]
    found = [callbacks.get_status(id) for id in ids]
    assert len({status.destination for status in found if status}) == 3


def test_a_delayed_callback_is_not_due_before(environment: Environment) -> None:
    before = time.time()
    receipt = callbacks.enqueue(URL, 1, delay=120)
    status = callbacks.get_status(receipt.id)
    assert status is not None
    assert status.next_attempt_at is not None
    assert status.next_attempt_at >= before + 119


def test_an_unreachable_redis_raises_within_its_timeout_with_the_callbacks_id(
    environment: Environment,
) -> None:
    environment(REDIS_URL="redis://127.0.0.1:1/0", CALLBACKS_REDIS_TIMEOUT=0.5)
    started = time.monotonic()
    with pytest.raises(redis.ConnectionError) as caught:
        callbacks.enqueue(URL, 1, id="t-9")
    assert time.monotonic() - started < 2
    assert caught.value.callback_id == "t-9"  # type: ignore[attr-defined]


def test_a_frozen_redis_raises_within_its_timeout(
    environment: Environment, client: redis.Redis
) -> None:
    environment(CALLBACKS_REDIS_TIMEOUT=0.3)
    assert callbacks.enqueue(URL, 1).accepted
    client.client_pause(4_000)
    started = time.monotonic()
    with pytest.raises(redis.TimeoutError) as caught:
        callbacks.enqueue(URL, 1)
    assert time.monotonic() - started < 3
    assert caught.value.callback_id.startswith("cb_")  # type: ignore[attr-defined]
    client.client_unpause()


def refuse(client: redis.Redis, how: str, name: str) -> None:
    if how == "READONLY":
        client.replicaof("127.0.0.1", 1)  # type: ignore[no-untyped-call]  # nobody is there
    elif how == "not allowed":
        client.execute_command("ACL", "SETUSER", "default", "-time")
    elif how == "wrong kind of key":
        client.set(key(name), "in the way")


@pytest.fixture
def recovering(client: redis.Redis, environment: Environment) -> Iterator[redis.Redis]:
    """A server that is restored when the test ends."""
    yield client
    client.replicaof("NO", "ONE")  # type: ignore[no-untyped-call]
    client.execute_command("ACL", "SETUSER", "default", "+@all")


REFUSALS = [
    ("READONLY", "READONLY"),
    ("not allowed", "permission|user executing"),
    ("wrong kind of key", "WRONGTYPE"),
]


@pytest.mark.parametrize(("how", "says"), REFUSALS)
def test_whatever_redis_answers_is_a_documented_error_with_the_callbacks_id(
    environment: Environment, recovering: redis.Redis, how: str, says: str
) -> None:
    refuse(recovering, how, "expiry")
    for call in (
        lambda: callbacks.enqueue(URL, 1, id="t-1"),
        lambda: callbacks.enqueue_many([{"callback_url": URL, "data": 1, "id": "t-1"}]),
    ):
        with pytest.raises(callbacks.RedisRefused, match=f"(?i){says}") as caught:
            call()
        assert caught.value.callback_id == "t-1"
        assert isinstance(caught.value, redis.ConnectionError)
        assert isinstance(caught.value, callbacks.CallbacksError)


def test_a_replica_says_so_when_one_cancels_too(
    environment: Environment, recovering: redis.Redis
) -> None:
    assert callbacks.enqueue(URL, 1, id="t-1").accepted
    recovering.replicaof("127.0.0.1", 1)  # type: ignore[no-untyped-call]
    with pytest.raises(callbacks.RedisRefused, match="READONLY"):
        callbacks.cancel("t-1")


def test_a_wrong_password_is_a_connection_error_with_the_id(
    environment: Environment, server: Server
) -> None:
    environment(REDIS_URL=f"redis://:wrong@127.0.0.1:{server.port}/0")
    with pytest.raises(redis.ConnectionError) as caught:
        callbacks.enqueue(URL, 1, id="t-1")
    assert caught.value.callback_id == "t-1"  # type: ignore[attr-defined]


def test_an_error_in_the_middle_of_many_tells_what_was_stored(
    environment: Environment, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("callbacks.api.CHUNK", 2)
    store, calls = api.store, []

    def cut_off(*given: Any) -> Any:
        calls.append(given)
        if len(calls) == 2:
            raise redis.TimeoutError("no reply")
        return store(*given)

    monkeypatch.setattr("callbacks.api.store", cut_off)
    items = [{"callback_url": URL, "data": n, "id": f"t-{n}"} for n in range(5)]
    with pytest.raises(redis.TimeoutError) as caught:
        callbacks.enqueue_many(items)
    told: Any = caught.value
    assert [receipt.id for receipt in told.receipts] == ["t-0", "t-1"]
    assert told.callback_id == "t-2"


def test_a_full_queue_tells_which_callback_found_no_room(environment: Environment) -> None:
    environment(CALLBACKS_MAX_QUEUED=1)
    callbacks.enqueue(URL, 1)
    with pytest.raises(callbacks.QueueFull) as caught:
        callbacks.enqueue(URL, 1, id="t-2")
    assert caught.value.callback_id == "t-2"


def test_a_node_of_a_cluster_is_refused_by_the_first_enqueue(
    environment: Environment, server_name: str
) -> None:
    node = Server(binaries()[server_name], "--cluster-enabled", "yes").start()
    try:
        with node.client() as raw:
            raw.execute_command("CLUSTER", "ADDSLOTS", *range(16_384))
            until(lambda: raw.cluster("info")["cluster_state"] == "ok", within=20)
            environment(REDIS_URL=node.url)
            with pytest.raises(callbacks.RedisRefused, match=r"REDIS_URL .* redis\+cluster://"):
                callbacks.enqueue(URL, 1, id="t-1")
            assert raw.dbsize() == 0
    finally:
        node.stop()


def test_a_misspelt_setting_is_logged_at_the_first_use(
    environment: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    environment(CALLBACKS_MAX_DELEY="1")
    for n in range(2):
        callbacks.enqueue("https://a.example/x", n)
    assert caplog.text.count("did you mean CALLBACKS_MAX_DELAY?") == 1
