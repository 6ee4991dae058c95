"""`callbacks web` over a real Redis: its metrics, its health check, and its public page."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from typing import NamedTuple

import pytest
import redis
from flask import Flask
from prometheus_client.parser import text_string_to_metric_families

from callbacks.batcher.client import connect
from callbacks.batcher.history import Sample
from callbacks.batcher.inspector import TOTALS
from callbacks.batcher.store import Batcher
from callbacks.model import Outcome, Reason
from callbacks.monitor.snapshot import take
from callbacks.settings import Settings
from callbacks.version import __version__
from callbacks.web.app import POLICY, create_app
from callbacks.web.readings import Readings
from callbacks.web.source import Source
from tests.redis.support import backdate, begin, claim_one, key, now_ms, put, settle


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: str


def ask(app: Flask, path: str, method: str = "GET", **headers: str) -> Answer:
    with app.test_client().open(path, method=method, headers=headers) as found:
        return Answer(found.status_code, dict(found.headers), found.text)


@pytest.fixture
def app(batcher: Batcher) -> Flask:
    """One that reads Redis for each request."""
    ticks = itertools.count(step=10)
    return create_app(Source(batcher, readings=Readings(monotonic=lambda: next(ticks))))


@pytest.fixture
def away(make_settings: Callable[..., Settings]) -> Flask:
    """An application whose Redis is away."""
    settings = make_settings().model_copy(update={"redis_url": "redis://127.0.0.1:1/0"})
    return create_app(Source(Batcher(connect(settings), settings)))


def samples(text: str) -> dict[str, float]:
    """`name` or `name{label=value}` of each sample, with its value."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(sample.labels.values())
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


# Metrics


def test_metrics_tell_states_totals_and_health(
    app: Flask, batcher: Batcher, make_batcher: Callable[..., Batcher]
) -> None:
    unpaced = make_batcher(min_interval=0, send_interval=0, destination_interval=0)
    for id, outcome in (("c-1", Outcome.SENT), ("c-2", Outcome.DEAD)):
        claimed = claim_one(unpaced, id)
        begin(unpaced, claimed)
        settle(unpaced, claimed, outcome)
    begin(unpaced, claim_one(unpaced, "c-3"))
    put(batcher, "c-4")
    put(batcher, "c-4")
    batcher.pause()
    answer = ask(app, "/metrics")
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    found = samples(answer.body)
    states = ("queued", "ready", "processing", "in_flight", "dead")
    assert [found[f"callbacks_{state}"] for state in states] == [1, 0, 1, 1, 1]
    totals = {name: found[f"callbacks_{name}_total"] for name in TOTALS if name != "attempts"}
    expected = take(batcher).overview.totals
    assert totals == {name: expected[name] for name in totals}
    assert (totals["accepted"], totals["sent"], totals["dead"]) == (4, 1, 1)
    assert totals["duplicates"] == 1
    assert (found["callbacks_paused"], found["callbacks_balance"]) == (1, 0)
    assert found["callbacks_health{paused}"] == 1
    assert sum(value for name, value in found.items() if "_health{" in name) == 1
    assert found[f"callbacks_build_info{{{__version__}}}"] == 1
    assert found["callbacks_redis_memory_bytes"] > 100_000
    assert found["callbacks_redis_memory_limit_bytes"] == 0


def test_attempts_are_counted_by_outcome_reason_and_status_and_timed(
    app: Flask, make_batcher: Callable[..., Batcher]
) -> None:
    batcher = make_batcher(min_interval=0, send_interval=0, destination_interval=0)
    zero = samples(ask(app, "/metrics").body)
    assert zero["callbacks_attempts_total{retry,timeout,none}"] == 0
    ends = [
        (Outcome.SENT, {"status": 204, "duration_ms": 90, "delivery_ms": 1_900}),
        (Outcome.SENT, {"status": 200, "duration_ms": 100, "delivery_ms": 90_000_000}),
        (Outcome.RETRY, {"status": 503, "duration_ms": 101, "reason": Reason.SERVER_ERROR}),
        (Outcome.DEAD, {"status": 401, "duration_ms": 7, "reason": Reason.CLIENT_ERROR}),
        (Outcome.RETRY, {"duration_ms": 40_000, "reason": Reason.TIMEOUT}),
    ]
    for n, (outcome, more) in enumerate(ends):
        claimed = claim_one(batcher, f"c-{n}")
        begin(batcher, claimed)
        settle(batcher, claimed, outcome, **more)
    batcher.tick("w", 1_000)
    found = samples(ask(app, "/metrics").body)
    kinds = {name: n for name, n in found.items() if name.startswith("callbacks_attempts_total")}
    assert {name: n for name, n in kinds.items() if n} == {
        "callbacks_attempts_total{sent,none,2xx}": 2,
        "callbacks_attempts_total{retry,server_error,5xx}": 1,
        "callbacks_attempts_total{dead,client_error,4xx}": 1,
        "callbacks_attempts_total{retry,timeout,none}": 1,
    }
    assert kinds.keys() == {n for n in zero if n.startswith("callbacks_attempts_total")}
    duration, delay = "callbacks_attempt_duration_seconds", "callbacks_delivery_delay_seconds"
    assert [found[f"{duration}_bucket{{{le}}}"] for le in ("0.005", "0.01", "0.1", "0.25")] == [
        0, 1, 3, 4,
    ]  # fmt: skip
    assert [found[f"{duration}_bucket{{{le}}}"] for le in ("30.0", "+Inf")] == [4, 5]
    assert (found[f"{duration}_count"], found[f"{duration}_sum"]) == (5, 40.298)
    assert [found[f"{delay}_bucket{{{le}}}"] for le in ("1.0", "2.5", "86400.0", "+Inf")] == [
        0, 1, 1, 2,
    ]  # fmt: skip
    assert (found[f"{delay}_count"], found[f"{delay}_sum"]) == (2, 90_001.9)


def test_a_crash_is_an_attempt_without_a_duration(
    app: Flask, batcher: Batcher, client: redis.Redis
) -> None:
    begin(batcher, claim_one(batcher))
    client.zadd(key("processing"), {"c-1": -1})
    assert batcher.reclaim(10, chance=0).recovered == 1
    found = samples(ask(app, "/metrics").body)
    assert found["callbacks_attempts_total{retry,crashed,none}"] == 1
    assert found["callbacks_attempt_duration_seconds_count"] == 0


def test_no_url_id_or_host_is_in_the_metrics(app: Flask, batcher: Batcher) -> None:
    put(batcher, "secret-id", "https://customer.example:443")
    batcher.pause("https://customer.example:443")
    batcher.tick("w", 1_000, threads=8, places=4, who='{"host": "some-host", "pid": 7}')
    body = ask(app, "/metrics").body
    assert "callbacks_destinations_paused 1.0" in body
    for secret in ("secret-id", "customer.example", "some-host"):
        assert secret not in body


def test_ages_and_losses_are_in_seconds(app: Flask, batcher: Batcher) -> None:
    put(batcher, "c-1")
    put(batcher, "c-2", "https://b.example:443")
    batcher.pause("https://b.example:443")
    batcher.scripts.client.hset(key("state"), "lost", 1_700_000_000_000)
    batcher.scripts.client.hset(key("state"), "scheduled", 1_700_000_000_000)
    backdate(batcher.scripts.client, "lane:https://a.example:443", "c-1", 7_000)
    backdate(batcher.scripts.client, "lane:https://b.example:443", "c-2", 3_600_000)
    found = samples(ask(app, "/metrics").body)
    assert 7 <= found["callbacks_oldest_ready_age_seconds"] < 37
    assert 3_600 <= found["callbacks_oldest_held_age_seconds"] < 3_630
    assert found["callbacks_data_lost_timestamp_seconds"] == 1_700_000_000
    assert found["callbacks_scheduler_last_seen_timestamp_seconds"] == 1_700_000_000
    assert found["callbacks_send_interval_seconds"] == 0.2


# Health


def test_the_health_check_is_well_while_work_goes_on_or_is_paused(
    app: Flask, batcher: Batcher
) -> None:
    assert ask(app, "/healthz").status == 200
    batcher.pause()
    answer = ask(app, "/healthz")
    assert (answer.status, json.loads(answer.body)["health"]) == (200, "paused")


def test_health_check_and_metric_report_held_work_without_a_worker(
    app: Flask, batcher: Batcher
) -> None:
    put(batcher, "c-1")
    batcher.pause("https://a.example:443")
    assert batcher.tick("worker", 1_000).elected
    assert ask(app, "/healthz").status == 200
    batcher.scripts.client.hincrby(key("state"), "ticked", -61_000)
    answer = ask(app, "/healthz")
    told = json.loads(answer.body)
    assert (answer.status, told["health"]) == (503, "no worker")
    assert told["reason"].endswith("1 callback not sent yet")
    assert told["todo"].startswith("run dramatiq callbacks")
    assert samples(ask(app, "/metrics").body)["callbacks_health{no worker}"] == 1


@pytest.mark.parametrize("path", ["/healthz", "/"])
def test_totals_that_do_not_balance_are_reported(app: Flask, batcher: Batcher, path: str) -> None:
    batcher.scripts.client.hset(key("counters"), "sent", 7)
    answer = ask(app, path)
    assert answer.status == (503 if path == "/healthz" else 200)
    assert "unbalanced" in answer.body


def test_without_redis_everything_says_so_and_names_no_address(away: Flask) -> None:
    for path, status in (("/", 503), ("/healthz", 503), ("/metrics", 200)):
        answer = ask(away, path)
        assert answer.status == status
        assert "no redis" in answer.body
        assert "127.0.0.1" not in answer.body
    found = samples(ask(away, "/metrics").body)
    assert found["callbacks_health{no redis}"] == 1
    assert {name.partition("{")[0] for name in found} == {
        "callbacks_health",
        "callbacks_build_info",
    }


# The page


class Text(HTMLParser):
    """The text of a page, and where it loads or runs something from."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.loaded: list[str] = []
        self.inline: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.loaded += [given[name] or "" for name in ("src", "href") if name in given]
        runs = tag == "style" or (tag == "script" and not given.get("src"))
        if runs or any(name == "style" or name.startswith("on") for name in given):
            self.inline.append(tag)

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_the_page_shows_what_status_shows_and_names_nobody(app: Flask, batcher: Batcher) -> None:
    put(batcher, "secret-id", "https://customer.example:443")
    assert batcher.lock("some-host-77:1")
    who = '{"host": "some-host", "pid": 7, "version": "1.2.3", "kind": "threads", "busy": 3}'
    batcher.tick("w", 1_000, threads=8, places=4, who=who, running_ms=7_200_000)
    answer = ask(app, "/")
    assert answer.status == 200
    shown = " ".join(" ".join(Text(answer.body).words).split())
    assert "1 at 1 destination" in shown
    assert "1, oldest waits" in shown
    assert "1.2.3 3 of 8 threads busy 2 h" in shown
    assert {"ok", "queued", *TOTALS} <= set(shown.split())
    for secret in ("secret-id", "customer.example", "some-host"):
        assert secret not in answer.body


def test_the_page_has_charts_that_can_be_read_without_seeing_them(
    app: Flask, batcher: Batcher, client: redis.Redis
) -> None:
    for minutes, sent in ((2, 10), (1, 25)):
        at_ms = now_ms(client) - 60_000 * minutes
        sample = Sample(at_ms, {"sent": sent}, {"timeout": sent // 5}, {500.0: sent})
        batcher.sample(sample, sample)
    body = ask(app, "/").body
    assert body.count('role="img"') == 4
    assert "sent: at most 15, last 15." in body
    assert "timeout: at most 3, last 3." in body
    assert "Time from enqueue to 2xx as a table" in body
    assert Text(body).inline == []
    assert "Last day" in ask(app, "/?span=day").body


def test_the_page_loads_its_own_files_and_nothing_else(app: Flask) -> None:
    answer = ask(app, "/")
    page = Text(answer.body)
    assert page.inline == []
    assert all(link.startswith(("/", "#", "?")) for link in page.loaded)
    files = [link for link in page.loaded if link.startswith("/static/")]
    assert len(files) == 3
    for link in files:
        found = ask(app, link)
        assert found.status == 200
        assert found.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert answer.headers["Content-Security-Policy"] == POLICY
    assert POLICY.startswith("default-src 'none'; ")
    assert "unsafe" not in POLICY
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "Set-Cookie" not in answer.headers


def test_only_over_https_browsers_are_told_to_stay_with_it(app: Flask) -> None:
    assert "Strict-Transport-Security" not in ask(app, "/healthz").headers
    secure = app.test_client().get("/healthz", base_url="https://localhost")
    assert "Strict-Transport-Security" in secure.headers


def test_what_redis_holds_cannot_change_the_page(app: Flask, batcher: Batcher) -> None:
    why = "<script>alert(1)</script>\u202egpj"
    batcher.scripts.client.hset(key("state"), mapping={"stagger": 1000, "why": why})
    body = ask(app, "/").body
    assert "&lt;script&gt;" in body
    assert "\u202e" not in body
    assert Text(body).inline == []


def test_the_changing_part_of_the_page_comes_alone_if_that_is_asked_for(app: Flask) -> None:
    answer = ask(app, "/", **{"X-Live": "1"})
    assert answer.headers["X-Live"] == "2"
    assert "queued" in answer.body
    assert "<header" not in answer.body
    assert "<title>ok · callbacks</title>" in answer.body


def test_the_last_numbers_stay_while_redis_is_away(
    app: Flask, batcher: Batcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(batcher, "c-1")
    assert "1 at 1 destination" in ask(app, "/").body
    lost = redis.ConnectionError("no address here")

    def fail(*_: object) -> None:
        raise lost

    monkeypatch.setattr("callbacks.web.source.take", fail)
    answer = ask(app, "/", **{"X-Live": "1"})
    assert (answer.status, answer.headers["X-Live"]) == (503, "2")
    assert "1 at 1 destination" in answer.body
    assert "no redis: it cannot be read" in answer.body
    assert re.search(r"What this page shows is \d+ s old. Do: start Redis", answer.body)
    assert "no address here" not in answer.body
    assert ask(app, "/healthz").status == 503
    assert "callbacks_queued" not in ask(app, "/metrics").body
    monkeypatch.undo()
    assert ask(app, "/").status == 200


# Requests


def test_other_paths_and_methods_are_refused(app: Flask) -> None:
    assert ask(app, "/nothing").status == 404
    assert ask(app, "/metrics/").status == 404
    answer = ask(app, "/metrics", "POST")
    assert (answer.status, set(answer.headers["Allow"].split(", "))) == (
        405,
        {"GET", "HEAD", "OPTIONS"},
    )


def test_a_refused_request_gets_a_page_with_the_same_protection(app: Flask) -> None:
    answer = ask(app, "/<script>")
    assert answer.status == 404
    assert "/healthz" in answer.body
    assert answer.headers["Content-Security-Policy"] == POLICY
    assert Text(answer.body).inline == []


def test_head_gets_what_get_would_without_the_body(app: Flask) -> None:
    answer = ask(app, "/healthz", "HEAD")
    assert (answer.status, answer.body) == (200, "")
    assert int(answer.headers["Content-Length"]) > 0
