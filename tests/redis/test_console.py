"""The console of `callbacks web` over a real Redis: login, pages, and what they do."""

from __future__ import annotations

import itertools
import re
import threading
import time
from collections.abc import Callable
from html import unescape
from typing import Any

import pytest
import redis
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from callbacks import admin, enqueue
from callbacks.batcher.store import Batcher
from callbacks.model import Effect, Feedback, Outcome, Reason
from callbacks.request.urls import masked
from callbacks.runtime import runtime, with_one_connection
from callbacks.web import login
from callbacks.web.app import create_app
from callbacks.web.readings import Readings
from callbacks.web.source import Source
from tests.redis.support import begin_when_due, claim_one, key, put, settle
from tests.redis.test_web import Text
from tests.support.processes import until

TOKEN = "a-long-enough-token"
HOST = "https://a.example:443"
#: Nothing of this may come out as it is.
EVIL = "<img src=x onerror=alert(1)>"
PAGES = (
    "/destinations", f"/destination?name={HOST}", "/dead", "/search?id=c-1", "/callback?id=c-1",
    "/workers", "/journal",
)  # fmt: skip


class Browser:
    """A browser without scripts: follows no redirect by itself, and fills in the CSRF token."""

    def __init__(self, app: Flask, **options: Any) -> None:
        self.app = app
        self.client: FlaskClient = app.test_client(**options)

    def get(self, path: str, **headers: str) -> TestResponse:
        return self.client.get(path, headers=headers)

    def post(self, path: str, page: str, **form: str) -> TestResponse:
        """Send a form of a page."""
        found = re.search(r'name="csrf_token" value="([^"]+)"', self.get(page).text)
        assert found, f"{page} has no form"
        return self.client.post(path, data={"csrf_token": found[1], **form})

    def log_in(self, token: str = TOKEN, **form: str) -> TestResponse:
        return self.post("/login", "/login", token=token, **form)

    def told(self, answer: TestResponse) -> str:
        """Follow a redirect; the text of the page."""
        assert answer.status_code == 303, answer.text
        return words(self.get(answer.location))


def words(answer: TestResponse) -> str:
    return " ".join(" ".join(Text(answer.text).words).split())


@pytest.fixture
def make_app(environment: Callable[..., None]) -> Callable[..., Flask]:
    """An application that reads Redis for each request."""

    def make(**given: Any) -> Flask:
        environment(CALLBACKS_WEB_TOKEN=TOKEN, **given)
        ticks = itertools.count(step=20)
        readings = Readings(monotonic=lambda: next(ticks))
        return create_app(Source(runtime().batcher, readings=readings))

    return make


@pytest.fixture
def app(make_app: Callable[..., Flask]) -> Flask:
    return make_app()


@pytest.fixture
def stranger(app: Flask) -> Browser:
    return Browser(app)


@pytest.fixture
def browser(app: Flask) -> Browser:
    """One that is signed in as anna."""
    found = Browser(app)
    assert found.log_in(name="anna").status_code == 303
    return found


@pytest.fixture
def fast(make_batcher: Callable[..., Batcher]) -> Batcher:
    """A batcher that paces nothing."""
    return make_batcher(min_interval=0, send_interval=0, destination_interval=0)


def die(
    batcher: Batcher,
    id: str,
    destination: str = HOST,
    *,
    status: int = 401,
    reason: Reason = Reason.CLIENT_ERROR,
    said: str = "invalid token",
    **more: Any,
) -> None:
    claimed = claim_one(batcher, id, destination)
    begin_when_due(batcher, claimed)
    entry = f'[1,1700000000000,"dead",{status},"{reason}",35,"{said}","b40a18r"]'
    settle(batcher, claimed, Outcome.DEAD, reason=reason, entry=entry, status=status, **more)


# Login


def test_without_a_token_there_is_no_console(environment: Callable[..., None]) -> None:
    environment()
    stranger = Browser(create_app(Source(runtime().batcher)))
    for page in ("/login", *PAGES):
        assert stranger.get(page).status_code == 404
    assert "CALLBACKS_WEB_TOKEN" in words(stranger.get("/dead"))
    assert "Log in" not in stranger.get("/").text


@pytest.mark.parametrize("page", PAGES)
def test_every_page_of_the_console_leads_a_stranger_to_the_login(
    stranger: Browser, page: str
) -> None:
    answer = stranger.get(page)
    assert (answer.status_code, answer.location.partition("?")[0]) == (303, "/login")
    assert stranger.get(page, **{"X-Live": "1"}).status_code == 401
    assert stranger.get(answer.location).status_code == 200


@pytest.mark.parametrize(
    "path", ["/steer", "/callback/act", "/dead", "/dead/stop", "/logout", "/login"]
)
def test_no_form_is_accepted_without_its_csrf_token(
    stranger: Browser, browser: Browser, path: str
) -> None:
    for each in (stranger, browser):
        answer = each.client.post(path, data={"act": "pause", "token": TOKEN})
        assert answer.status_code == 400
        assert "Nothing was done" in words(answer)
    assert runtime().batcher.look().paused is False


def test_a_stranger_with_a_csrf_token_can_do_nothing(stranger: Browser) -> None:
    answer = stranger.post("/steer", "/login", act="pause")
    assert (answer.status_code, answer.location) == (303, "/login")
    assert runtime().batcher.look().paused is False


def test_strangers_see_no_names_on_the_first_page(
    stranger: Browser, browser: Browser, batcher: Batcher
) -> None:
    put(batcher, "secret-id", "https://customer.example:443")
    batcher.pause("https://customer.example:443", entry='{"act":"pause","who":"eve@host-7"}')
    batcher.tick("w", 1_000, threads=8, places=4, who='{"host": "dyno-77", "pid": 7}')
    public, private = stranger.get("/").text, browser.get("/").text
    for secret in ("customer.example", "eve@host-7", "dyno-77"):
        assert secret not in public
    assert "eve@host-7" in private
    assert "dyno-77" in private


def test_the_token_opens_a_session_that_scripts_cannot_read(stranger: Browser) -> None:
    wrong = stranger.log_in("a-wrong-token")
    assert wrong.status_code == 403
    assert "not the token" in words(wrong)
    answer = stranger.post("/login", "/login?next=/dead?reason=gone", token=TOKEN, next="/dead")
    assert (answer.status_code, answer.location) == (303, "/dead")
    (cookie,) = answer.headers.getlist("Set-Cookie")
    attributes = {part.strip().partition("=")[0] for part in cookie.split(";")}
    assert {"HttpOnly", "SameSite", "Expires"} <= attributes
    assert "Secure" not in attributes
    assert TOKEN not in cookie
    assert stranger.get("/dead").status_code == 200


def test_over_https_the_cookie_stays_there(app: Flask) -> None:
    client = app.test_client()
    https = {"base_url": "https://localhost"}
    found = re.search(r'name="csrf_token" value="([^"]+)"', client.get("/login", **https).text)
    assert found
    form = {"csrf_token": found[1], "token": TOKEN}
    here = {"Referer": "https://localhost/login"}
    answer = client.post("/login", data=form, headers=here, **https)
    assert answer.status_code == 303
    assert "; Secure;" in answer.headers["Set-Cookie"]


@pytest.mark.parametrize(
    "target", ["https://evil.example/", "//evil.example/", "/\\evil.example", "evil", ""]
)
def test_a_login_leads_nowhere_else(stranger: Browser, target: str) -> None:
    assert stranger.post("/login", "/login", token=TOKEN, next=target).location == "/"


def test_guessing_is_slowed_down(stranger: Browser, app: Flask) -> None:
    for _ in range(5):
        assert stranger.log_in("a-wrong-token").status_code == 403
    answer = stranger.log_in()
    assert answer.status_code == 429
    assert 1 <= int(answer.headers["Retry-After"]) <= 60
    assert "Too many attempts" in words(answer)
    elsewhere = Browser(app)
    elsewhere.client.environ_base["REMOTE_ADDR"] = "192.0.2.7"
    assert elsewhere.log_in().status_code == 303


def test_a_session_ends(browser: Browser) -> None:
    assert browser.get("/dead").status_code == 200
    with browser.client.session_transaction() as session:
        session["since"] = time.time() - login.SESSION_S - 1
    assert browser.get("/dead").status_code == 303


def test_logging_out_ends_a_session(browser: Browser) -> None:
    assert browser.post("/logout", "/dead").location == "/"
    assert browser.get("/dead").status_code == 303


def test_another_token_ends_all_sessions(
    browser: Browser, environment: Callable[..., None]
) -> None:
    environment(CALLBACKS_WEB_TOKEN="another-long-token")
    other = Browser(create_app(Source(runtime().batcher)))
    other.client = other.app.test_client()
    cookie = browser.client.get_cookie("callbacks_session")
    assert cookie is not None
    other.client.set_cookie(cookie.key, cookie.value)
    assert other.get("/dead").status_code == 303


# Pages


@pytest.fixture
def evil(fast: Batcher) -> None:
    """What a page shows of others, as hostile as it can be."""
    lane = f"{HOST}#{EVIL}"
    die(fast, "c-1", lane, said=EVIL)
    put(fast, "c-2", lane)
    admin.pause(HOST, why=EVIL, who=EVIL)
    who = f'{{"host": "{EVIL}", "pid": 7, "version": "{EVIL}", "kind": "{EVIL}", "busy": 3}}'
    fast.tick("w", 1_000, threads=8, places=4, who=who)
    fast.scripts.client.hset(key("state"), mapping={"stagger": 1_000, "why": EVIL})


@pytest.mark.parametrize(
    "page",
    [
        "/", "/destinations", f"/destinations?of={EVIL}", "/dead", f"/dead?destination={EVIL}",
        f"/dead?reason={EVIL}&status={EVIL}&since={EVIL}&cursor={EVIL}", "/callback?id=c-1",
        f"/callback?id={EVIL}", f"/search?id={EVIL}", "/workers", "/journal",
        f"/destination?name={EVIL}", "/destination?name=https://a.example:443%23" + EVIL,
    ],
)  # fmt: skip
def test_nothing_is_shown_unescaped(browser: Browser, evil: None, page: str) -> None:
    answer = browser.get(page)
    assert answer.status_code in (200, 400, 404), answer.text
    assert EVIL not in answer.text
    assert Text(answer.text).inline == []
    assert all(link.startswith(("/", "#", "?")) for link in Text(answer.text).loaded)


def test_the_hostile_data_is_there_at_all(browser: Browser, evil: None) -> None:
    for page in ("/", "/dead", "/callback?id=c-1", "/workers", "/journal"):
        assert EVIL in unescape(browser.get(page).text)


def test_destinations_in_trouble_come_first(browser: Browser, fast: Batcher) -> None:
    for n in range(3):
        die(fast, f"d-{n}", "https://z.example:443", feedback=Feedback(Effect.ALIVE))
    put(fast, "c-1", "https://b.example:443")
    shown = words(browser.get("/destinations"))
    assert shown.index("https://z.example:443") < shown.index("https://b.example:443")
    assert "were all 3xx or 4xx: 401" in shown
    only = words(browser.get("/destinations?trouble=1"))
    assert "https://z.example:443" in only
    assert "https://b.example:443" not in only
    of = words(browser.get("/destinations?of=https://b.example/hook"))
    assert "https://b.example:443" in of
    assert "https://z.example:443" not in of
    assert "expected https://" in words(browser.get("/destinations?of=nonsense"))


def test_many_destinations_come_page_by_page(browser: Browser, batcher: Batcher) -> None:
    for n in range(150):
        put(batcher, f"c-{n}", f"https://host-{n:03}.example:443")
    first = browser.get("/destinations")
    more = re.search(r'class="button" href="([^"]+)"', first.text)
    assert more
    second = browser.get(unescape(more[1]))
    hosts = [
        re.findall(r"https://host-\d+\.example:443(?=</a>)", each.text) for each in (first, second)
    ]
    assert [len(each) for each in hosts] == [100, 50]
    assert len({*hosts[0], *hosts[1]}) == 150


def test_a_destinations_page_tells_how_it_is(browser: Browser, fast: Batcher) -> None:
    die(fast, "c-1", said="invalid token for tenant 7")
    die(fast, "c-2", status=403)
    begin_when_due(fast, claim_one(fast, "c-3"))
    put(fast, "c-4")
    page = browser.get(f"/destination?name={HOST}")
    shown = words(page)
    for fact in (
        "condition ready",
        "interval 0.2 s (as set)",
        "limit of now 4 (as set)",
        "in flight 1",
        "breaker closed",
        "park not parked",
        "waiting 1",
        "invalid token for tenant 7",
        "client_error: 2",
    ):
        assert fact in shown
    for id in ("c-1", "c-2", "c-3", "c-4"):
        assert f"/callback?id={id}" in page.text
    assert browser.get("/destination?name=https://unknown.example:443").status_code == 404


def test_a_destination_is_paused_and_resumed_with_the_reason(
    browser: Browser, batcher: Batcher
) -> None:
    put(batcher, "c-1")
    page = f"/destination?name={HOST}"
    form = {"destination": HOST, "lanes": "1"}
    done = browser.post("/steer", page, **form, act="pause", why="they asked for it")
    told = browser.told(done)
    assert f"Paused: {HOST}; 0 requests still in flight." in told
    assert "condition paused by anna@console: they asked for it" in told
    (act,) = admin.log()
    assert (act.act, act.target, act.who, act.reason) == (
        "pause", HOST, "anna@console", "they asked for it",
    )  # fmt: skip
    assert "they asked for it" in words(browser.get("/journal"))
    told = browser.told(browser.post("/steer", page, **form, act="resume"))
    assert f"Resumed: {HOST}." in told
    assert "condition ready" in told
    told = browser.told(browser.post("/steer", page, **form, act="resume"))
    assert "There was nothing to resume" in told


def test_a_host_is_paused_with_its_lanes_or_without(browser: Browser, batcher: Batcher) -> None:
    put(batcher, "c-1")
    put(batcher, "c-2", f"{HOST}#eu")
    page, lane = f"/destination?name={HOST}", f"/destination?name={HOST}%23eu"
    browser.post("/steer", page, destination=HOST, act="pause")
    assert "condition paused" in words(browser.get(page))
    assert "condition paused" not in words(browser.get(lane))
    told = browser.told(browser.post("/steer", page, destination=HOST, lanes="1", act="pause"))
    assert f"Paused: {HOST} and 1 lane; 0 requests still in flight." in told
    assert "condition paused" in words(browser.get(lane))


def test_everything_is_paused_on_the_first_page(browser: Browser, batcher: Batcher) -> None:
    told = browser.told(browser.post("/steer", "/", act="pause", why="deploy"))
    assert "Paused: all" in told
    assert "paused: for" in told
    assert "Paused by anna@console: deploy." in told
    browser.post("/steer", "/", act="resume")
    assert batcher.look().paused is False


def test_a_callbacks_story_masks_secrets(make_app: Callable[..., Flask], batcher: Batcher) -> None:
    app = make_app(CALLBACKS_SECRET="whsec_" + "c2VjcmV0" * 4)
    browser = Browser(app)
    browser.log_in()
    enqueue(
        "https://a.example/hooks/7?token=hush",
        {"n": 1},
        id="c-1",
        event="image.completed",
        headers={
            "Authorization": "Bearer hush",
            "X-Tenant": "acme",
            "X-Trace": "9f8e7d6c5b4a39281",
        },
    )
    shown = words(browser.get("/callback?id=c-1"))
    for fact in (
        "queued",
        "next",
        "URL https://a.example/hooks/7",
        "event image.completed",
        "environment production",
        "X-Tenant acme",
        "Authorization (masked, 11 characters)",
        "X-Trace (masked, 17 characters)",
        "webhook-signature (masked)",
        "webhook-id c-1",
    ):
        assert fact.lower() in shown.lower()
    assert "hush" not in shown


def test_a_callbacks_attempts_and_answers_are_told(browser: Browser, fast: Batcher) -> None:
    die(fast, "c-1", said="invalid token for tenant 7")
    shown = words(browser.get("/callback?id=c-1"))
    assert "1 2023-11-14T22:13:20Z dead 401 client_error 35 ms invalid token for tenant 7" in shown
    assert "75 ms = batch 40 + answer 18 + rest 17, over an open connection" in shown
    assert "what to do" in shown
    assert "Replay" in shown


def test_a_callback_is_cancelled_and_replayed(browser: Browser, fast: Batcher) -> None:
    die(fast, "c-2")
    put(fast, "c-1")
    told = browser.told(browser.post("/callback/act", "/callback?id=c-1", id="c-1", act="cancel"))
    assert "It is cancelled." in told
    form = {"id": "c-2", "act": "replay", "why": "fixed"}
    told = browser.told(browser.post("/callback/act", "/callback?id=c-2", **form))
    assert "It is queued again." in told
    assert [(act.act, act.who) for act in admin.log()] == [
        ("replay", "anna@console"), ("cancel", "anna@console"),
    ]  # fmt: skip
    told = browser.told(browser.post("/callback/act", "/callback?id=c-2", **form))
    assert "It is no dead letter (any more)." in told
    fast.cancel("c-2")
    begin_when_due(fast, claim_one(fast, "c-3"))
    told = browser.told(browser.post("/callback/act", "/callback?id=c-3", id="c-3", act="cancel"))
    assert "there will be no further attempt" in told


def test_an_id_is_found_and_an_unknown_one_is_named(browser: Browser, batcher: Batcher) -> None:
    put(batcher, "c-1")
    assert browser.get("/search?id=%20c-1 ").location == "/callback?id=c-1"
    answer = browser.get("/search?id=c-2")
    assert answer.status_code == 404
    assert "c-2 was never accepted, or its record is no longer kept." in words(answer)
    assert browser.get("/search?id=no id").status_code == 400
    assert browser.get("/callback?id=c-2").status_code == 404
    assert browser.get("/search?id=https://a.example").location.startswith("/destinations?of=")


# Dead letters


@pytest.fixture
def graves(fast: Batcher) -> None:
    """Four dead letters; the last one has died last."""
    die(fast, "c-1", "https://a.example:443", status=401)
    die(fast, "c-2", "https://b.example:443", status=404)
    die(fast, "c-3", "https://b.example:443", status=503, reason=Reason.SERVER_ERROR)
    die(fast, "c-4", "https://a.example:443#eu", status=410, reason=Reason.GONE)
    for hours, id in enumerate(("c-4", "c-3", "c-2", "c-1")):
        fast.scripts.client.zincrby(key("dead"), -3_600_000 * hours, id)
        fast.scripts.client.hincrby(key(f"rec:{id}"), "f", -3_600_000 * hours)


@pytest.mark.parametrize(
    ("filter", "ids"),
    [
        ("", ["c-4", "c-3", "c-2", "c-1"]),
        ("reason=client_error", ["c-2", "c-1"]),
        ("destination=https://a.example", ["c-4", "c-1"]),
        ("destination=https://a.example%23", ["c-1"]),
        ("status=404", ["c-2"]),
        ("status=4xx", ["c-4", "c-2", "c-1"]),
        ("since=90m", ["c-4", "c-3"]),
        ("until=90m", ["c-2", "c-1"]),
        ("since=150m&until=30m&reason=server_error", ["c-3"]),
        ("reason=timeout", []),
    ],
)
def test_dead_letters_are_filtered(
    browser: Browser, graves: None, filter: str, ids: list[str]
) -> None:
    page = browser.get(f"/dead?{filter}").text
    assert re.findall(r">(c-\d)</a>", page) == ids


@pytest.mark.parametrize(
    ("filter", "field"),
    [
        ("reason=bad", "reason"),
        ("status=40", "status"),
        ("status=9xx", "status"),
        ("since=yesterday", "since"),
        ("until=soon", "until"),
        ("destination=nonsense", "destination"),
        ("cursor=nonsense", "cursor"),
    ],
)
def test_a_bad_filter_is_named_and_selects_nothing(
    browser: Browser, graves: None, filter: str, field: str
) -> None:
    answer = browser.get(f"/dead?{filter}")
    assert answer.status_code == 200
    assert f"{field}:" in words(answer)
    assert "c-1" not in answer.text
    name, _, value = filter.partition("=")
    if name != "cursor":
        told = browser.told(
            browser.post("/dead", "/dead", **{name: value, "act": "purge", "sure": "1"})
        )
        assert "Nothing was done" in told
    assert len(list(admin.list("dead"))) == 4


def work(browser: Browser, **form: str) -> str:
    """Start a job and wait for its end; the page with its result."""
    page = browser.post("/dead", "/dead", **form).location
    until(lambda: "<progress" not in browser.get(page).text, within=10)
    return words(browser.get(page))


def test_a_dry_run_counts_and_changes_nothing(browser: Browser, graves: None) -> None:
    assert "2 dead letters match (reason client_error)" in work(
        browser, act="count", reason="client_error"
    )
    assert len(list(admin.list("dead"))) == 4
    assert list(admin.log()) == []


def test_what_matches_is_replayed(browser: Browser, graves: None) -> None:
    shown = work(browser, act="replay", status="4xx", until="90m", why="fixed")
    assert "2 dead letters replayed (status 4xx, until 90m)" in shown
    assert [one.id for one in admin.list("dead")] == ["c-4", "c-3"]
    assert {one.id for one in admin.list("queued")} == {"c-1", "c-2"}
    (act,) = admin.log()
    assert (act.act, act.who, act.reason, act.count) == ("replay", "anna@console", "fixed", 2)
    assert act.target.startswith("status=4xx until=")


def test_to_purge_or_to_replay_all_the_box_must_be_ticked(browser: Browser, graves: None) -> None:
    for form in ({"act": "purge", "reason": "gone"}, {"act": "replay"}, {"act": "nonsense"}):
        told = browser.told(browser.post("/dead", "/dead", **form))
        assert "Nothing was done" in told
    assert len(list(admin.list("dead"))) == 4
    shown = work(browser, act="purge", reason="gone", sure="1")
    assert "1 dead letter purged (reason gone)" in shown
    shown = work(browser, act="replay", sure="1")
    assert "3 dead letters replayed (all dead letters)" in shown
    assert list(admin.list("dead")) == []


def test_progress_is_shown_and_a_job_can_be_stopped(
    browser: Browser, fast: Batcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(120):
        die(fast, f"c-{n}", status=422)
    first, go_on = threading.Event(), threading.Event()
    real = Batcher.purge

    def slow(self: Batcher, ids: Any, **more: Any) -> int:
        done = real(self, ids, **more)
        first.set()
        assert go_on.wait(20)
        return done

    monkeypatch.setattr(Batcher, "purge", slow)
    browser.post("/dead", "/dead", act="purge", reason="client_error", sure="1")
    assert first.wait(20)
    page = browser.get("/dead?reason=client_error")
    assert "<progress" in page.text
    refused = browser.told(browser.post("/dead", "/dead", act="count"))
    assert "another job is running" in refused
    browser.post("/dead/stop", "/dead", back="/dead")
    go_on.set()
    until(lambda: "<progress" not in browser.get("/dead").text, within=10)
    assert "50 dead letters purged (reason client_error); stopped" in words(browser.get("/dead"))
    (act,) = admin.log()
    assert (act.act, act.count) == ("purge", 50)


def test_a_rare_match_among_many_is_looked_for_page_by_page(
    browser: Browser, fast: Batcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("callbacks.web.console._MOST_READ", 2)
    monkeypatch.setattr("callbacks.batcher.listing.PAGE", 2)
    die(fast, "c-0", status=404)
    for n in range(1, 6):
        die(fast, f"c-{n}")
    page = browser.get("/dead?status=404")
    for _ in range(5):
        if "c-0" in page.text:
            break
        assert "None among" in words(page)
        more = re.search(r'class="button" href="([^"]+)"', page.text)
        assert more
        page = browser.get(unescape(more[1]))
    assert "c-0" in page.text


# Masked paths


def test_paths_are_shown_as_digests_where_they_are_secrets(
    make_app: Callable[..., Flask], make_batcher: Callable[..., Batcher]
) -> None:
    app = make_app(CALLBACKS_MASK_PATHS="true", CALLBACKS_SHARED_HOSTS="hooks.example")
    browser = Browser(app)
    browser.log_in(name="anna")
    fast = make_batcher(min_interval=0, send_interval=0, destination_interval=0)
    secret = "https://hooks.example:443/services/T0/hush"
    for n in range(3):
        die(fast, f"d-{n}", secret, feedback=Feedback(Effect.ALIVE))
    enqueue("https://hooks.example/services/T0/hush?x=1", {"n": 1}, id="c-1")
    hidden = masked(secret)
    place = f"/destination?name={hidden}"
    browser.post("/steer", place, destination=hidden, act="pause", why="why")
    for page in (
        "/", "/destinations", "/destinations?trouble=1", place, "/dead", "/callback?id=c-1",
        "/callback?id=d-1", "/journal", f"/dead?destination={hidden}", f"/destinations?of={hidden}",
    ):  # fmt: skip
        answer = browser.get(page)
        assert answer.status_code == 200
        assert "hush" not in answer.text, page
    assert hidden in browser.get("/destinations").text
    assert "c-1" in browser.get(place).text
    assert "d-1" in browser.get(f"/dead?destination={hidden}").text
    assert fast.scripts.client.hexists(key(f"dest:{secret}"), "paused")
    told = words(browser.get(f"/dead?destination={hidden[:-1]}0"))
    assert "masked" in told


# Redis


def test_the_console_needs_one_connection(
    make_app: Callable[..., Flask], graves: None, client: redis.Redis
) -> None:
    before = len(client.client_list())
    make_app()
    browser = Browser(create_app(Source(with_one_connection(5).batcher)))
    browser.log_in()
    for page in PAGES:
        browser.get(page)
    work(browser, act="replay", sure="1")
    assert len(client.client_list()) == before + 1


def test_pages_keep_what_they_knew_while_redis_is_away(
    browser: Browser, graves: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages = (
        "/",
        "/destinations",
        f"/destination?name={HOST}",
        "/dead",
        "/callback?id=c-1",
        "/workers",
        "/journal",
    )
    for page in pages:
        assert browser.get(page).status_code == 200

    def fail(*_: object, **__: object) -> None:
        raise redis.ConnectionError("away")

    monkeypatch.setattr(redis.connection.Connection, "send_packed_command", fail)
    monkeypatch.setattr(redis.connection.AbstractConnection, "connect", fail)
    for page in pages:
        answer = browser.get(page, **{"X-Live": "1"})
        assert answer.status_code == 503, page
        assert "old. Do: start Redis" in words(answer)
    unknown = words(browser.get("/callback?id=c-2"))
    assert "Redis cannot be read" in unknown
    assert "appears by itself" in unknown
    steered = browser.post("/steer", "/destinations", act="pause", name=HOST)
    assert steered.status_code == 503
    assert "it may or may not have been done" in words(steered)
    monkeypatch.undo()
    assert browser.get("/dead").status_code == 200
