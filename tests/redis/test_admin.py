"""Administration in Python, against a real server."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import FrozenInstanceError, fields, is_dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, get_type_hints

import pytest
import redis

import callbacks
from callbacks import admin
from callbacks.admin import looking, values
from callbacks.admin.documents import is_instant
from callbacks.admin.filters import to_cursor
from callbacks.batcher.inspector import overview
from callbacks.batcher.store import Batcher
from callbacks.model import PARTS, InvalidCallback, Outcome, Reason, State
from callbacks.request.urls import digest
from callbacks.when import instant, rfc3339
from tests.redis.support import (
    HOST,
    backdate,
    begin,
    claim,
    claim_one,
    key,
    put,
    settle,
)

OTHER = "https://b.example:443"
URL = "https://a.example/hooks?token=hunter2"


@pytest.fixture
def unpaced(environment: Callable[..., None], make_batcher: Callable[..., Batcher]) -> Batcher:
    """A batcher that claims and sends without pacing, as the tested functions do, too."""
    pace = {"send_interval": 0, "destination_interval": 0, "min_interval": 0}
    pace |= {"destination_concurrency": 0, "batch_size": 1_000}
    environment(**{f"CALLBACKS_{name.upper()}": value for name, value in pace.items()})
    return make_batcher(**pace)


def end(
    batcher: Batcher, outcome: Outcome, *ids: str, destination: str = HOST, **more: Any
) -> None:
    for id in ids:
        put(batcher, id, destination)
    while claimed := claim(batcher).callbacks:
        for one in claimed:
            begin(batcher, one)
            settle(batcher, one, outcome, **more)


def kill(batcher: Batcher, *ids: str, **more: Any) -> None:
    end(batcher, Outcome.DEAD, *ids, **more)


def all_pages(state: State | str, limit: int, **more: Any) -> Iterator[tuple[str, ...]]:
    cursor = None
    while True:
        page = admin.list(state, limit=limit, cursor=cursor, **more)
        yield tuple(one.id for one in page)
        cursor = page.cursor
        if cursor is None:
            return


# list


def test_final_states_are_listed_newest_first_page_by_page(
    unpaced: Batcher, client: redis.Redis
) -> None:
    ids = [f"c-{n}" for n in range(7)]
    kill(unpaced, *ids)
    for n, id in enumerate(ids):
        client.zadd(key("dead"), {id: 1_000 + n // 3})  # some died in one instant
    newest_first = ["c-6", "c-5", "c-4", "c-3", "c-2", "c-1", "c-0"]
    for limit in (1, 2, 3, 6, 7, 8):
        found = list(all_pages("dead", limit))
        assert [*itertools.chain.from_iterable(found)] == newest_first, limit
        assert all(len(page) == limit for page in found[:-1])
        assert found[-1], "no page is empty"


def test_a_page_goes_on_although_what_it_ended_with_is_gone(unpaced: Batcher) -> None:
    kill(unpaced, *(f"c-{n}" for n in range(6)))
    first = admin.list("dead", limit=2)
    admin.purge(ids=[one.id for one in first])
    kill(unpaced, "new")
    second = admin.list("dead", limit=2, cursor=first.cursor)
    assert not {one.id for one in first} & {one.id for one in second}
    assert [one.id for one in second] == ["c-3", "c-2"]


def test_more_than_a_page_that_died_in_one_instant_are_all_listed(
    unpaced: Batcher, client: redis.Redis
) -> None:
    ids = {f"c-{n:04}" for n in range(1_203)}
    kill(unpaced, *ids)
    client.zadd(key("dead"), dict.fromkeys(ids, 5))
    assert sorted(one.id for one in admin.iterate("dead")) == sorted(ids)
    found = [*itertools.chain.from_iterable(all_pages("dead", 600, reason="server_error"))]
    assert sorted(found) == sorted(ids)


def test_dead_letters_are_filtered_by_status_and_by_when_they_died(
    unpaced: Batcher, client: redis.Redis
) -> None:
    for n, status in enumerate((401, 404, 503)):
        kill(unpaced, f"c-{status}", entry=f'[1,1,"dead",{status},"client_error",5]')
        client.zadd(key("dead"), {f"c-{status}": 1_000 * n})
        client.hset(key(f"rec:c-{status}"), "f", 1_000 * n)
    at = datetime.fromtimestamp(1, UTC)
    for wanted, ids in (
        ({"status": 404}, ["c-404"]),
        ({"status": "4xx"}, ["c-404", "c-401"]),
        ({"until": at}, ["c-401"]),
        ({"since": at}, ["c-503", "c-404"]),
        ({"since": at, "status": "5xx"}, ["c-503"]),
    ):
        assert [one.id for one in admin.list("dead", **wanted)] == ids  # type: ignore[arg-type]
        assert admin.purge(dry_run=True, **wanted).count == len(ids)  # type: ignore[arg-type]
    for bad in ("40", "9xx", "x"):
        with pytest.raises(InvalidCallback, match=r"status: .* such as 401"):
            admin.list("dead", status=bad)
    with pytest.raises(InvalidCallback, match=r"until: .* have ended"):
        admin.list("queued", until="2h")
    assert admin.replay(until=at, why="try").count == 1
    assert admin.log().items[0].target == "until=1970-01-01T00:00:01Z"


def test_one_destination_is_read_by_its_name(unpaced: Batcher) -> None:
    put(unpaced, "c-1", f"{HOST}#eu")
    found = admin.destination(f"{HOST}#eu")
    assert found is not None
    assert (found.name, found.waiting) == (f"{HOST}#eu", 1)
    assert admin.destination(HOST) is None


def test_queued_ones_are_listed_as_they_expire_and_those_of_a_lane_as_they_are_due(
    unpaced: Batcher,
) -> None:
    put(unpaced, "c-1", OTHER, life_ms=50_000)
    put(unpaced, "c-2", HOST, life_ms=90_000, delay_ms=5)
    put(unpaced, "c-3", HOST, life_ms=10_000, delay_ms=9)
    put(unpaced, "c-4", f"{HOST}#l", life_ms=5_000)
    assert [*all_pages("queued", 3)] == [("c-4", "c-3", "c-1"), ("c-2",)]
    assert [*all_pages("queued", 1, destination=f"{HOST}#")] == [("c-2",), ("c-3",)]
    assert [*all_pages("queued", 2, destination="https://a.example")] == [("c-2", "c-3"), ("c-4",)]
    assert [*all_pages("queued", 1, destination="https://a.example")][2] == ("c-4",)


def test_what_is_claimed_is_processing_and_no_longer_queued(unpaced: Batcher) -> None:
    put(unpaced, "c-1")
    put(unpaced, "c-2", delay_ms=60_000)
    claim(unpaced)
    assert [*all_pages("processing", 5)] == [("c-1",)]
    assert [*all_pages("queued", 5)] == [("c-2",)]


def test_sent_and_cancelled_ones_are_apart_and_a_short_page_says_that_there_may_be_more(
    unpaced: Batcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(unpaced, "no")
    admin.cancel("no")
    end(unpaced, Outcome.SENT, *(f"c-{n}" for n in range(20)))
    assert len(admin.list("sent")) == 20
    monkeypatch.setattr(looking, "PAGE", 5)
    monkeypatch.setattr(looking, "MOST_READ", 10)
    page = admin.list("cancelled")
    assert (len(page), page.cursor is None) == (0, False)
    assert [one.id for one in admin.iterate("cancelled")] == ["no"]


def test_filters_of_a_list_can_be_combined(unpaced: Batcher, client: redis.Redis) -> None:
    kill(unpaced, "old", "new")
    kill(unpaced, "gone", reason=Reason.GONE)
    kill(unpaced, "other", destination=OTHER)
    backdate(client, "dead", "old", 7_200_000)
    client.hincrby(key("rec:old"), "f", -7_200_000)

    def ids(**filters: Any) -> set[str]:
        return {one.id for one in admin.list("dead", **filters)}

    assert ids(destination=HOST) == {"old", "new", "gone"}
    assert ids(destination=HOST, reason="server_error") == {"old", "new"}
    hour_ago = datetime.now(UTC) - timedelta(hours=1)
    for since in ("1h", "3600", timedelta(hours=1), hour_ago, hour_ago.isoformat()):
        assert ids(destination=HOST, reason=Reason.SERVER_ERROR, since=since) == {"new"}, since
    assert ids(ids=["old", "other", "unknown"], since="1h") == {"other"}
    assert [one.id for one in admin.list("dead", ids=["new", "old", "new"])] == ["new", "old"]


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda: admin.list("lost"), "state"),
        (lambda: admin.list("dead", reason="bad luck"), "reason"),
        (lambda: admin.list("dead", destination="a.example"), "destination"),
        (lambda: admin.list("dead", since="yesterday"), "since"),
        (lambda: admin.list("dead", since=datetime(2026, 1, 1)), "since"),  # noqa: DTZ001
        (lambda: admin.list("queued", since="1h"), "since"),
        (lambda: admin.list("dead", limit=0), "limit"),
        (lambda: admin.list("dead", ids="c-1"), "ids"),
        (lambda: admin.list("dead", ids=["no spaces"]), "id"),
        (lambda: admin.list("dead", cursor="x"), "cursor"),
        (lambda: admin.list("dead", cursor=to_cursor("list sent", 1.0, "c-1", "")), "cursor"),
        (lambda: admin.list("dead", cursor=to_cursor("list dead", "x")), "cursor"),
        (lambda: admin.destinations(sort="size"), "sort"),
        (lambda: admin.destinations(cursor=to_cursor("destinations 0 ", 1)), "cursor"),
        (lambda: admin.log(cursor=to_cursor("log", "x")), "cursor"),
        (lambda: admin.pause("a.example"), "destination"),
        (lambda: admin.resume("ftp://a.example"), "destination"),
        (lambda: admin.cancel("no spaces"), "id"),
        (lambda: admin.show(""), "id"),
        (admin.replay, "all"),
        (lambda: admin.replay(limit=5), "all"),
        (lambda: admin.purge(all=True, reason="gone"), "all"),
        (lambda: admin.purge(all=True, limit=-1), "limit"),
    ],
)
def test_bad_input_names_its_parameter(
    environment: Callable[..., None], call: Callable[[], object], field: str
) -> None:
    with pytest.raises(InvalidCallback) as caught:
        call()
    assert caught.value.field == field
    assert "expected" in caught.value.problem


# show


def test_a_status_says_what_is_owed_to_whom_since_when(
    environment: Callable[..., None], unpaced: Batcher, client: redis.Redis
) -> None:
    before = datetime.now(UTC).timestamp() - 0.001
    callbacks.enqueue(
        URL, {"n": 1}, id="c-1", event='a "quoted\\" é', environment="staging", headers={"X-A": "1"}
    )
    client.hset(key(f"dest:{HOST}"), "ok", 1)

    def shown() -> callbacks.Status:
        found = callbacks.get_status("c-1")
        assert found is not None
        assert (found.event, found.environment) == ('a "quoted\\" é', "staging")
        assert found.created_at is not None
        assert before <= found.created_at <= datetime.now(UTC).timestamp()
        return found

    assert shown().callback_url == URL
    (claimed,) = claim(unpaced).callbacks
    begin(unpaced, claimed)
    assert shown().callback_url == URL
    settle(unpaced, claimed, Outcome.DEAD)
    assert shown().callback_url == URL
    admin.replay(ids=["c-1"])
    assert callbacks.cancel("c-1")
    assert client.exists(key("cb:c-1")) == 0
    assert (shown().state, shown().callback_url) == (State.CANCELLED, "https://a.example")


def test_what_is_kept_of_a_sent_callback_takes_little_memory(
    environment: Callable[..., None], unpaced: Batcher, client: redis.Redis
) -> None:
    callbacks.enqueue("http://a.example:8080/x", 1, id="c-1", event="image.completed")
    client.hset(key("dest:http://a.example:8080"), "ok", 1)
    (claimed,) = claim(unpaced).callbacks
    begin(unpaced, claimed)
    settle(unpaced, claimed)
    status = callbacks.get_status("c-1")
    assert status is not None
    assert (status.callback_url, status.event) == ("http://a.example:8080", "image.completed")
    assert client.object("encoding", key("rec:c-1")) in {b"listpack", b"ziplist"}


def test_a_callback_whose_head_is_long_is_read_to_its_end(
    environment: Callable[..., None], unpaced: Batcher, client: redis.Redis
) -> None:
    headers = {f"X-{n}": "v" * 700 for n in range(10)}
    callbacks.enqueue(f"https://a.example/{'x' * 1_900}", 1, id="c-1", headers=headers, event="e")
    status = callbacks.get_status("c-1")
    assert status is not None
    assert (status.event, len(status.callback_url)) == ("e", 1_918)
    callbacks.cancel("c-1")
    status = callbacks.get_status("c-1")
    assert status is not None
    assert (status.event, status.callback_url) == ("e", "https://a.example")


def test_a_callback_of_an_older_release_has_a_status_too(unpaced: Batcher) -> None:
    end(unpaced, Outcome.SENT, "c-1")  # its body has no envelope
    status = callbacks.get_status("c-1")
    assert status is not None
    assert (status.created_at, status.event, status.callback_url) == (
        None,
        None,
        "https://a.example",
    )


def test_a_story_has_everything_that_may_be_told(
    environment: Callable[..., None], unpaced: Batcher
) -> None:
    assert admin.show("c-0") is None
    callbacks.enqueue(URL, {"card": "4711"}, id="c-1", headers={"Authorization": "s3cret"})
    story = admin.show("c-1")
    assert story is not None
    assert (story.status.id, story.next, story.hint) == ("c-1", "waits for its batch", None)
    assert story.header_names == ("Authorization",)
    assert story.body_bytes is not None
    told = repr(admin.document(story))
    assert "https://a.example/hooks" in told
    assert not any(word in told for word in ("hunter2", "s3cret", "4711"))


# Values


def test_values_are_frozen_and_documents_have_times_in_rfc_3339(unpaced: Batcher) -> None:
    kill(unpaced, "c-1")
    (one,) = admin.list("dead")
    with pytest.raises(FrozenInstanceError):
        one.state = State.SENT  # type: ignore[misc]
    document = admin.document(one)
    assert instant(document["ended_at"]) == one.ended_at
    assert document["history"][0]["at"] == "1970-01-01T00:00:00.001Z"
    assert document["history"][0]["duration"] == 0.005
    status = admin.document(admin.status())
    assert instant(status["at"]) > 0
    assert (status["dead"], status["paused_since"]) == (1, None)
    assert admin.document(callbacks.Receipt("c-1", accepted=True))["accepted"] is True


def test_every_float_of_a_value_is_an_instant_by_its_name_or_a_duration() -> None:
    durations = {
        "oldest_queued_age", "oldest_ready_age", "oldest_held_age", "send_interval",
        "last_batch_age", "next_batch_in", "interval", "latency", "duration", *PARTS, "waited",
        "total", "seconds", "p50", "p95", "p99",
    }  # fmt: skip
    kinds = [kind for kind in vars(values).values() if is_dataclass(kind)]
    kinds += [callbacks.Status, callbacks.Attempt, callbacks.Answer, callbacks.Timing, admin.Act]
    floats = {
        field.name
        for kind in kinds
        for field in fields(kind)
        if "float" in str(get_type_hints(kind)[field.name])
    }
    assert {name for name in floats if not is_instant(name)} == durations
    assert floats & {"at", "ended_at", "held_until", "paused_since"}


def test_an_instant_survives_its_document() -> None:
    assert rfc3339(1_764_225_167.0004) == "2025-11-27T06:32:47.000Z"
    assert rfc3339(1_764_225_167.9996) == "2025-11-27T06:32:48.000Z"
    assert instant(rfc3339(1_764_225_167.123)) == 1_764_225_167.123


# Dead letters


@pytest.mark.parametrize("act", [admin.replay, admin.purge])
def test_dead_letters_are_changed_in_steps_with_progress(
    unpaced: Batcher, act: Callable[..., admin.DeadLetters]
) -> None:
    kill(unpaced, *(f"c-{n:03}" for n in range(120)))
    told: list[tuple[int, int | None]] = []
    tell = lambda done, expected: told.append((done, expected))  # noqa: E731
    assert act(all=True, dry_run=True, progress=tell) == admin.DeadLetters(120, dry_run=True)
    assert overview(unpaced.scripts).dead == 120
    assert act(all=True, limit=70, progress=tell).count == 70
    assert told == [(50, 120), (100, 120), (120, 120), (50, 70), (70, 70)]
    assert overview(unpaced.scripts).dead == 50


def test_those_that_died_first_are_replayed_first(unpaced: Batcher, client: redis.Redis) -> None:
    kill(unpaced, "c-1", "c-2", "c-3")
    client.zadd(key("dead"), {"c-3": 1, "c-1": 2, "c-2": 3})
    admin.replay(all=True, limit=2)
    assert [one.id for one in admin.list("dead")] == ["c-2"]


def test_progress_that_raises_ends_the_work_and_the_journal_has_what_was_done(
    unpaced: Batcher,
) -> None:
    kill(unpaced, *(f"c-{n:03}" for n in range(120)))

    def stop(done: int, _expected: int | None) -> None:
        if done == 100:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        admin.replay(all=True, progress=stop, why="try", who="me")
    (act,) = admin.log()
    assert (act.act, act.target, act.count) == ("replay", "all", 100)
    assert (act.who, act.reason) == ("me", "try")
    assert overview(unpaced.scripts).queued == 100


def test_a_host_includes_its_lanes_and_the_result_says_how_many(unpaced: Batcher) -> None:
    for n, destination in enumerate((HOST, f"{HOST}#a", f"{HOST}#b", OTHER)):
        kill(unpaced, f"c-{n}", destination=destination)
    one = admin.replay(destination="https://a.example#a", dry_run=True)
    assert (one.count, one.destination, one.lanes) == (1, f"{HOST}#a", 0)
    alone = admin.replay(destination="https://a.example#", dry_run=True)
    assert (alone.count, alone.destination, alone.lanes) == (1, HOST, 0)
    host = admin.replay(destination="https://a.example")
    assert (host.count, host.destination, host.lanes, host.paths) == (3, HOST, 2, 0)
    assert admin.purge(ids=["c-1", "c-3", "c-9"]).not_dead == ("c-1", "c-9")


# Steering


def test_a_cancel_says_what_became_of_it(unpaced: Batcher) -> None:
    assert admin.cancel("c-0") == admin.Cancellation("c-0", False, False, None)
    put(unpaced, "c-1")
    assert admin.cancel("c-1", why="test", who="me") == admin.Cancellation(
        "c-1", True, False, State.CANCELLED
    )
    claimed = claim_one(unpaced, "c-2")
    begin(unpaced, claimed)
    flying = admin.cancel("c-2")
    assert (flying.done, flying.in_flight, flying.state) == (True, True, State.PROCESSING)
    settle(unpaced, claimed)
    late = admin.cancel("c-2")
    assert (late.done, late.state) == (False, State.SENT)
    assert [(act.target, act.who) for act in admin.log()][-1] == ("c-1", "me")


def test_pause_and_resume_say_what_they_covered(unpaced: Batcher) -> None:
    put(unpaced, "c-1", f"{HOST}#a")
    done = admin.pause("https://a.example", why="they asked")
    assert done == admin.Pause(HOST, lanes=1, paths=0, in_flight=0, known=True)
    assert admin.status().paused is False
    assert admin.pause("https://typo.example").known is False
    again = admin.resume("https://a.example")
    assert (again.target, again.lanes, again.changed) == (HOST, 1, True)
    assert admin.resume("https://a.example").changed is False
    admin.pause(why="deploy", who="me")
    now = admin.status()
    assert (now.paused, now.paused_by, now.paused_reason) == (True, "me", "deploy")
    assert admin.flush().refused
    assert admin.resume().changed
    assert admin.flush().ids == ("c-1",)
    assert admin.flush().why == "nothing is queued"


def test_resuming_a_url_clears_its_mark(unpaced: Batcher) -> None:
    admin.pause(HOST)
    unpaced.scripts.client.zadd(key("gone"), {digest(URL): 1})
    done = admin.resume(URL)
    assert (done.target, done.destination) == ("https://a.example/hooks", HOST)
    assert (done.changed, done.still_paused) == (True, True)
    assert admin.resume(URL).changed is False


# Destinations and the journal


def names_of(limit: int, **more: Any) -> list[tuple[str, ...]]:
    found, cursor = [], None
    while True:
        page = admin.destinations(limit=limit, cursor=cursor, **more)
        found.append(tuple(one.name for one in page))
        cursor = page.cursor
        if cursor is None:
            return found


def test_destinations_come_page_by_page_those_in_trouble_first(unpaced: Batcher) -> None:
    hosts = [f"https://{letter}.example:443" for letter in "abcde"]
    for n, host in enumerate(hosts):
        for m in range(n + 1):
            put(unpaced, f"c-{n}-{m}", host)
    for host in hosts[3:]:
        unpaced.scripts.client.hset(key(f"dest:{host}"), mapping={"fails": 5})
        unpaced.scripts.client.zadd(key("troubled"), {host: 1})
    ill = ["https://e.example:443", "https://d.example:443"]  # more wait for the first
    for limit in (1, 2, 3, 5):
        found = [*itertools.chain.from_iterable(names_of(limit))]
        assert found == [*ill, *hosts[:3]], limit
        assert [*itertools.chain.from_iterable(names_of(limit, trouble=True))] == ill
        waiting = [*itertools.chain.from_iterable(names_of(limit, sort="waiting"))]
        assert waiting == hosts[::-1]
    assert names_of(9, destination="https://b.example") == [("https://b.example:443",)]
    assert [one.name for one in admin.iterate_destinations(sort="name")] == hosts
    first = admin.destinations().items[0]
    assert (first.waiting, first.condition) == (5, "ready")
    assert first.trouble is not None
    assert first.todo is not None
    assert first.oldest_due_at is not None


def test_a_host_is_shown_with_its_lanes(unpaced: Batcher) -> None:
    for n, name in enumerate((HOST, f"{HOST}#a", f"{HOST}#b", OTHER)):
        put(unpaced, f"c-{n}", name)
    assert names_of(9, destination="https://a.example") == [(HOST, f"{HOST}#a", f"{HOST}#b")]
    assert names_of(9, destination="https://a.example#a") == [(f"{HOST}#a",)]
    assert names_of(9, destination="https://a.example#") == [(HOST,)]


def test_the_journal_comes_page_by_page(batcher: Batcher, environment: Callable[..., None]) -> None:
    acts = [(1_000, "a"), (1_000, "b"), (1_000, "c"), (2_000, "d"), (3_000, "e")]
    for at, target in acts:
        entry = f'{at} {{"act":"pause","target":"{target}"}}'
        batcher.scripts.client.lpush(key("journal"), entry)
    for limit in (1, 2, 3, 5):
        found, cursor = "", None
        while True:
            page = admin.log(limit=limit, cursor=cursor)
            found += "".join(act.target for act in page)
            cursor = page.cursor
            if cursor is None:
                break
        assert found == "edcba", limit


# Upkeep and errors


def test_an_audit_finds_and_repairs(batcher: Batcher, environment: Callable[..., None]) -> None:
    put(batcher, "c-1")
    assert admin.audit().ok
    batcher.scripts.client.delete(key("cb:c-1"))
    found = admin.audit()
    assert [str(one) for one in found.problems] == ["c-1: has lost its request"]
    told: list[admin.Problem] = []
    done = admin.audit(repair=True, tell=told.append, why="crash", who="me")
    assert done.ok
    assert [one.name for one in done.repaired] == ["c-1"]
    assert told == list(done.repaired)
    assert [(act.act, act.reason) for act in admin.log()] == [("repair", "crash")]


def test_cleanup_takes_back_what_is_stuck(unpaced: Batcher, client: redis.Redis) -> None:
    put(unpaced, "c-1")
    claim(unpaced)
    backdate(client, "processing", "c-1", 1_000_000)
    assert admin.cleanup() == admin.Cleanup(recovered=1, dead=0, cancelled=0)
    assert admin.cleanup(expired=True).expired == 0


def test_a_redis_that_is_away_raises_what_is_documented(
    environment: Callable[..., None], client: redis.Redis, redis_url: str
) -> None:
    client.execute_command("ACL", "SETUSER", "app", "on", ">pw", "~*", "&*", "+@all", "-eval")
    client.execute_command("ACL", "SETUSER", "app", "-evalsha")
    environment(REDIS_URL=redis_url.replace("redis://", "redis://app:pw@"))
    with pytest.raises(callbacks.RedisRefused):
        admin.pause()
    client.execute_command("ACL", "DELUSER", "app")
    environment(REDIS_URL="redis://127.0.0.1:1/0")
    for call in (admin.status, admin.flush, lambda: next(admin.iterate("dead"))):
        with pytest.raises(redis.ConnectionError):
            call()
