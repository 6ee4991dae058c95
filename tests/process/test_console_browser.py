"""The console in a real browser: Chromium, driven by Playwright, over a real `callbacks web`."""

from __future__ import annotations

import math
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import axe_playwright_python
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from callbacks.batcher.client import connect
from callbacks.batcher.history import Sample
from callbacks.batcher.store import Batcher
from callbacks.model import Effect, Feedback, Outcome, Reason
from callbacks.settings import load_settings
from tests.process.faults import busy_s
from tests.process.test_web import listening
from tests.redis.support import begin_when_due, claim_one, now_ms, put, settle
from tests.support.processes import Groups, clean_environment
from tests.support.server import Server, binaries

AXE = Path(axe_playwright_python.__file__).parent / "axe.min.js"
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no chromium is installed: apt-get install chromium"
)

TOKEN = "a-long-enough-token"
SHOP, MAIL, PAY = (f"https://{name}.example:443" for name in ("shop", "mail", "pay"))
DESKTOP, PHONE = (1_280, 900), (390, 844)
PAGES = {
    "overview": "/",
    "destinations": "/destinations",
    "destination": f"/destination?name={SHOP}",
    "dead": "/dead?reason=client_error",
    "callback": "/callback?id=order-1",
    "workers": "/workers",
    "journal": "/journal",
}


@dataclass
class Stage:
    """A Redis with something of everything in it, and the console over it."""

    server: Server
    batcher: Batcher
    address: str


@dataclass
class Watched:
    """A page whose complaints are collected."""

    page: Page
    address: str
    complaints: list[str] = field(default_factory=list)

    def open(self, path: str) -> None:
        self.page.goto(self.address + path)

    def log_in(self) -> None:
        self.open("/login")
        if self.page.url.endswith("/login"):
            self.page.get_by_label("Your name").fill("anna")
            self.page.get_by_label("The token").fill(TOKEN)
            self.page.get_by_role("button", name="Log in").click()
        expect(self.page.get_by_role("button", name="Log out")).to_be_visible()


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    server = Server(binaries()["valkey"], "--appendonly", "yes", "--appendfsync", "always").start()
    environ = {
        "REDIS_URL": server.url,
        "CALLBACKS_WEB_TOKEN": TOKEN,
        "CALLBACKS_REDIS_TIMEOUT": "0.5",
        "CALLBACKS_REFUSED_HOLD": "0",
        "CALLBACKS_ADAPTIVE": "false",
        "CALLBACKS_MIN_INTERVAL": "0",
        "CALLBACKS_SEND_INTERVAL": "0",
        "CALLBACKS_DESTINATION_INTERVAL": "0",
    }
    settings = load_settings(environ)
    client = connect(settings)
    batcher = Batcher(client, settings)
    folder = tmp_path_factory.mktemp("web")
    try:
        fill(batcher)
        with Groups(clean_environment(**environ), folder) as groups:
            yield Stage(server, batcher, listening(groups.web()))
    finally:
        client.close()
        client.connection_pool.disconnect()
        server.stop()


def fill(batcher: Batcher) -> None:
    at = now_ms(batcher.scripts.client)
    for minutes in range(24 * 60, -1, -10):
        remember(batcher, at - 60_000 * minutes, 24 * 60 - minutes)
    for minutes in range(60, -1, -1):
        remember(batcher, at - 60_000 * minutes, 24 * 60 - minutes)
    refusal = Feedback(Effect.ALIVE)
    for n in range(1, 9):
        claimed = claim_one(batcher, f"order-{n}", SHOP)
        begin_when_due(batcher, claimed)
        entry = f'[1,{at - n * 1_000},"dead",401,"client_error",41,"invalid token for tenant 7"]'
        settle(batcher, claimed, Outcome.DEAD, reason=Reason.CLIENT_ERROR, entry=entry,
               status=401, feedback=refusal, duration_ms=41)  # fmt: skip
    for n in range(1, 4):
        claimed = claim_one(batcher, f"mail-{n}", MAIL)
        begin_when_due(batcher, claimed)
        settle(batcher, claimed, Outcome.SENT, status=204, duration_ms=80, delivery_ms=900,
               feedback=Feedback(Effect.OK))  # fmt: skip
    begin_when_due(batcher, claim_one(batcher, "pay-1", PAY))
    for n in range(2, 9):
        put(batcher, f"pay-{n}", PAY)
    who = '{"host": "worker.1", "pid": 4, "version": "0.1.0", "kind": "threads", "busy": 3}'
    batcher.tick("w", 1_000, threads=64, places=32, who=who, running_ms=7_200_000)
    batcher.scheduled()


def remember(batcher: Batcher, at_ms: int, n: int) -> None:
    """A sample after n minutes, of a system with a busy hour in the evening."""
    sent = 120 * n + round(900 * math.sin(n / 40)) + n
    sample = Sample(
        at_ms,
        totals={"accepted": sent + n, "sent": sent, "dead": n // 3},
        failed={"client_error": n // 3, "timeout": n // 5, "rate_limited": n // 20},
        delays={500.0: sent * 8 // 10, 2_500.0: sent * 15 // 100, 30_000.0: sent // 20},
        oldest_ready_ms=round(2_000 + 1_500 * math.sin(n / 7)),
        oldest_held_ms=max(0, round(20_000 * math.sin(n / 15))),
    )
    batcher.sample(sample, sample)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        # As root, Chromium has no sandbox; it opens pages of ours alone.
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def watched(chromium: Browser, stage: Stage) -> Iterator[Watched]:
    """A page in a session of its own; in the end, it must have had nothing to complain of."""
    context = chromium.new_context(viewport={"width": DESKTOP[0], "height": DESKTOP[1]})
    context.set_default_timeout(10_000 + 1_000 * busy_s())
    expect.set_options(timeout=10_000 + 1_000 * busy_s())
    found = Watched(context.new_page(), stage.address)
    found.page.on("pageerror", lambda error: found.complaints.append(str(error)))
    found.page.on("console", lambda line: note(found, line))
    yield found
    context.close()
    assert found.complaints == []


def note(watched: Watched, line: Any) -> None:
    """Failed requests are what some tests are about; all else that the browser says is wrong."""
    if line.type in ("error", "warning") and "Failed to load resource" not in line.text:
        watched.complaints.append(line.text)


# For everybody: first, while everything is there to be seen


def test_axe_finds_nothing_on_any_page_wide_or_narrow_light_or_dark(
    watched: Watched, request: pytest.FixtureRequest
) -> None:
    page = watched.page
    folder = request.config.getoption("--screenshots")
    watched.open("/")
    check(page, "public")
    watched.open("/login")
    check(page, "login")
    watched.log_in()
    for name, path in PAGES.items():
        watched.open(path)
        if folder:
            picture(page, name, Path(folder))
        if name == "overview":
            page.locator("summary").first.click()
        check(page, name)


def check(page: Page, name: str) -> None:
    """Let axe look at a page: wide and light, narrow and dark, and the first one in all four ways.

    Colours do not depend on the width, nor all else on the scheme, and axe takes long.
    """
    page.evaluate(AXE.read_text())
    ways = [(DESKTOP, "light"), (PHONE, "dark")]
    if name == "overview":
        ways += [(DESKTOP, "dark"), (PHONE, "light")]
    for (width, height), scheme in ways:
        page.set_viewport_size({"width": width, "height": height})
        page.emulate_media(color_scheme=scheme)
        found = page.evaluate("axe.run({resultTypes: ['violations'], preload: false})")
        problems = [
            f"{each['id']}: {each['help']}: {node['html']}"
            for each in found["violations"]
            for node in each["nodes"]
        ]
        assert problems == [], f"{name}, {width} px, {scheme}"
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= width, f"{name} is {wide} px wide at {width} px"
    page.set_viewport_size({"width": DESKTOP[0], "height": DESKTOP[1]})


def picture(page: Page, name: str, folder: Path) -> None:
    """Keep a picture for the README: of two pages as on a desk, and of one on a phone at night."""
    ways = {"overview": ((1_280, 1_150), "light"), "destination": (DESKTOP, "light")}
    (width, height), scheme = ways.get(name, (PHONE, "dark"))
    if name not in (*ways, "destinations"):
        return
    page.set_viewport_size({"width": width, "height": height})
    page.emulate_media(color_scheme=scheme)
    page.screenshot(path=folder / f"console-{name}.png")


# Login


def test_a_stranger_sees_numbers_and_gets_in_with_the_token_alone(watched: Watched) -> None:
    page = watched.page
    watched.open("/")
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    assert "shop.example" not in page.content()
    watched.open("/dead")
    expect(page).to_have_url(re.compile("/login"))
    page.get_by_label("The token").fill("a-wrong-token")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("not the token")
    page.get_by_label("The token").fill(TOKEN)
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{watched.address}/dead")
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_role("link", name="Log in")).to_be_visible()


# What people come for


def test_the_cause_of_a_failure_is_found_and_what_died_is_replayed(watched: Watched) -> None:
    page = watched.page
    watched.log_in()
    trouble = page.get_by_role("region", name="Destinations in trouble")
    expect(trouble).to_contain_text("were all 3xx or 4xx: 401")
    trouble.get_by_role("link", name=SHOP).click()
    expect(page.get_by_role("main")).to_contain_text("invalid token for tenant 7")
    page.get_by_role("link", name="client_error: 8").click()
    expect(page.get_by_role("row")).to_have_count(9)
    page.get_by_label("Last status").fill("401")
    page.get_by_role("button", name="Show").click()
    page.get_by_role("button", name="Dry run").click()
    expect(page.get_by_text("8 dead letters match")).to_be_visible()
    page.get_by_label("Why, for the journal").fill("they have fixed it")
    page.get_by_role("button", name="Replay").click()
    expect(page.get_by_text("8 dead letters replayed")).to_be_visible()
    expect(page.get_by_text("No dead letter matches.")).to_be_visible()
    page.get_by_role("link", name="Journal").click()
    expect(page.get_by_role("row", name="replay")).to_contain_text("anna@console")
    expect(page.get_by_role("row", name="replay")).to_contain_text("they have fixed it")


def test_a_destination_is_paused_and_resumed(watched: Watched) -> None:
    page = watched.page
    watched.log_in()
    page.get_by_role("link", name="Destinations").click()
    page.get_by_role("link", name=PAY).click()
    page.get_by_label("Why, for the journal").fill("their migration")
    page.get_by_role("button", name="Pause", exact=True).click()
    expect(page.get_by_role("main")).to_contain_text("paused by anna@console: their migration")
    page.get_by_role("button", name="Resume").click()
    expect(page.get_by_role("main")).to_contain_text(f"Resumed: {PAY}")


def test_a_callback_is_found_by_its_id_and_cancelled(watched: Watched) -> None:
    page = watched.page
    watched.log_in()
    page.get_by_role("search").get_by_label("Id").fill("pay-8")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Callback pay-8")).to_be_visible()
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_text("It is cancelled.")).to_be_visible()
    page.get_by_role("search").get_by_label("Id").fill("pay-99")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="No callback has this id")).to_be_visible()


# How it behaves


def test_a_page_follows_what_happens_and_keeps_what_its_reader_does(
    watched: Watched, stage: Stage
) -> None:
    page = watched.page
    watched.log_in()
    page.evaluate("window.marked = true")
    page.get_by_text("Callbacks a minute as a table").click()
    why = page.get_by_label("Why, for the journal")
    why.fill("half a sen")
    shown = page.get_by_role("definition").filter(has_text="destination").first
    before = shown.inner_text()
    put(stage.batcher, "late-1", "https://late.example:443")
    expect(shown).not_to_have_text(before)
    assert page.evaluate("window.marked")
    assert page.locator("details[open]").count() == 1
    expect(why).to_be_focused()
    expect(why).to_have_value("half a sen")
    page.get_by_role("button", name="Pause updates").click()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.wait_for_timeout(2_500)
    assert asked == []
    page.get_by_role("button", name="Resume updates").click()
    with page.expect_response(lambda answer: answer.ok):
        pass
    page.evaluate(
        """Object.defineProperty(document, "hidden", {value: true, configurable: true});
        document.dispatchEvent(new Event("visibilitychange"))"""
    )
    page.wait_for_timeout(500)
    asked.clear()
    page.wait_for_timeout(2_500)
    assert asked == []


def test_the_last_numbers_stay_while_redis_is_stopped(watched: Watched, stage: Stage) -> None:
    page = watched.page
    watched.log_in()
    page.get_by_role("link", name="Destinations").click()
    expect(page.get_by_role("link", name=MAIL)).to_be_visible()
    stage.server.kill()
    try:
        expect(page.get_by_text("old. Do: start Redis")).to_be_visible()
        expect(page.get_by_role("link", name=MAIL)).to_be_visible()
        page.get_by_role("link", name="Overview").click()
        expect(page.get_by_text("no redis: it cannot be read").first).to_be_visible()
        expect(page.get_by_role("heading", name="Destinations in trouble")).to_be_visible()
    finally:
        stage.server.start()
    expect(page.get_by_text("old. Do: start Redis")).to_have_count(0)


def test_the_keyboard_reaches_the_content_at_once(watched: Watched) -> None:
    page = watched.page
    watched.log_in()
    watched.open("/dead")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.get_by_label("Destination", exact=True)).to_be_focused()
