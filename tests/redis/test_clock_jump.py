"""Redis' clock jumps: that alone expires, purges and crashes nothing.

The test controls the scripts' clock and the time in the processes.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import redis
from click.testing import CliRunner

from callbacks import runtime
from callbacks.admin.looking import system_status
from callbacks.batcher.clock import HELD_MS, RedisClock, Seen
from callbacks.batcher.inspector import find, overview
from callbacks.batcher.store import RENEW_STEP, Batcher
from callbacks.cli.main import main
from callbacks.model import Claimed, Go, Outcome, Recovered, Trimmed
from callbacks.monitor import service_checks
from callbacks.monitor.checks import CheckStatus
from callbacks.monitor.probes import read_work
from callbacks.monitor.snapshot import facts, take
from callbacks.settings import Settings
from tests.redis.bench import Bench
from tests.redis.support import HOST, HOUR_MS, begin, claim_one, key, put, settle

DAY_MS = 24 * HOUR_MS
CHECK_MS = 3_000


class World:
    """Several processes on one Redis; `pass_ms` for all, `jump` for Redis' clock alone."""

    def __init__(self, bench: Bench, settings: Settings) -> None:
        self.bench, self.settings, self.here_s = bench, settings, 1_000.0
        self.first = self.process(bench.begin_anew(settings))

    def process(self, batcher: Batcher | None = None) -> Batcher:
        made = batcher or Batcher(self.bench.client, self.settings, verbs=self.bench.verbs)
        made.clock = RedisClock(lambda: self.here_s)
        return made

    def pass_ms(self, ms: int) -> None:
        self.bench.advance(ms)
        self.here_s += ms / 1_000

    def jump(self, ms: int) -> None:
        self.bench.advance(ms)


@pytest.fixture
def world(client: redis.Redis, make_settings: Callable[..., Settings]) -> World:
    made = World(Bench(client), make_settings(dead_ttl=DAY_MS // 1_000))
    for _ in range(2):
        made.first.tick("first", 1)
        made.pass_ms(CHECK_MS)
    return made


def state_of(batcher: Batcher, id: str) -> str:
    status = find(batcher.scripts, id)
    return status.state if status else "forgotten"


def fill(world: World) -> Claimed:
    """One queued, one in flight, one dead letter, and one sent."""
    batcher = world.first
    for id, outcome in (("dead", Outcome.DEAD), ("sent", Outcome.SENT)):
        claimed = claim_one(batcher, id)
        begin(batcher, claimed)
        settle(batcher, claimed, outcome)
        world.pass_ms(CHECK_MS)
    sending = claim_one(batcher, "sending")
    begin(batcher, sending)
    put(batcher, "waits")
    batcher.tick("first", 1)
    return sending


def duties(batcher: Batcher) -> tuple[int, Trimmed, Recovered]:
    return batcher.expire(100), batcher.trim(100), batcher.reclaim(100, chance=0.5)


NOTHING = (0, Trimmed(0, 0, 0), Recovered(0, 0, 0))


@pytest.mark.parametrize("noticed", [True, False], ids=["noticed", "in the middle of a tick"])
def test_nothing_ends_by_a_jump_ahead(world: World, noticed: bool) -> None:
    batcher, sending = world.first, fill(world)
    world.jump(10 * DAY_MS)
    if noticed:
        world.pass_ms(CHECK_MS)
        assert batcher.tick("first", 1).jump_ms == pytest.approx(10 * DAY_MS, abs=CHECK_MS)
    assert duties(batcher) == NOTHING
    states = [state_of(batcher, id) for id in ("waits", "sending", "dead", "sent")]
    assert states == ["queued", "processing", "dead", "sent"]
    assert settle(batcher, sending).name == "SENT"


@pytest.mark.parametrize("jump_ms", [2 * DAY_MS, -2 * DAY_MS], ids=["ahead", "back"])
def test_leases_are_renewed_in_bounded_steps_by_everybody_who_notices(
    world: World, jump_ms: int
) -> None:
    client, many = world.bench.client, 2 * RENEW_STEP + 1
    other = world.process()
    for _ in range(2):
        other.tick("other", 1)
        world.pass_ms(CHECK_MS)
    world.first.tick("first", 1)
    leases = {f"s-{n}": -(world.bench.now_ms + 1_000) for n in range(many)}
    client.zadd(key("processing"), leases)
    for id in leases:
        client.hset(key(f"rec:{id}"), mapping={"s": "sending", "d": HOST})
    world.jump(jump_ms)
    world.first.renew = lambda limit: 0  # stopped in between
    assert world.first.tick("first", 1).jump_ms
    assert other.tick("other", 1).jump_ms == 0
    scores = {score for _, score in client.zrange(key("processing"), 0, -1, withscores=True)}
    assert scores == {-(world.bench.now_ms + 15_000)}
    assert client.zcard(key(f"inflight:{HOST}")) == many
    assert other.renew(RENEW_STEP) == 0


def test_what_waits_is_sent_in_the_meantime_and_a_request_that_vanished_is_a_crash(
    world: World,
) -> None:
    batcher = world.first
    fill(world)
    world.jump(2 * DAY_MS)
    assert batcher.tick("first", 1).jump_ms
    world.pass_ms(1_000)
    put(batcher, "new")
    world.bench.client.hdel(key("state"), "last_batch")
    claimed = {c.id: c for c in _claim(batcher)}
    assert isinstance(batcher.begin("waits", claimed["waits"].token), Go)
    world.pass_ms(16_000)
    batcher.tick("first", 1)
    assert batcher.reclaim(100, chance=0).recovered == 2  # the one before, and this one
    status = find(batcher.scripts, "sending")
    assert status is not None
    assert (status.state, status.crashes) == ("queued", 1)


def _claim(batcher: Batcher) -> tuple[Claimed, ...]:
    batch = batcher.claim("a", batcher.lock("a"))
    return batch.callbacks


def test_all_processes_notice_one_jump_and_one_tells(world: World) -> None:
    fill(world)
    others = [world.process() for _ in range(2)]
    for each in others:
        each.tick("other", 1)
    world.jump(DAY_MS)
    assert [bool(each.tick("x", 1).jump_ms) for each in (*others, world.first)] == [
        True,
        False,
        False,
    ]
    assert world.first.unhold()
    stopped = others[0]
    world.pass_ms(CHECK_MS)
    assert not stopped.tick("x", 1).jump_ms
    assert not overview(stopped.scripts).held


def test_one_that_notices_late_does_not_hold_it_again(world: World) -> None:
    late = world.process()
    late.tick("late", 1)
    world.jump(DAY_MS)
    assert world.first.tick("first", 1).jump_ms
    assert world.first.unhold()
    world.pass_ms(HOUR_MS)
    assert not late.tick("late", 1).jump_ms
    assert not overview(late.scripts).held


def test_a_process_that_has_just_begun_ends_nothing_before_the_others_have_looked(
    world: World,
) -> None:
    fill(world)
    world.jump(2 * DAY_MS)
    new = world.process()
    assert new.tick("new", 1).jump_ms == 0
    assert duties(new) == NOTHING
    world.pass_ms(CHECK_MS)
    assert world.first.tick("first", 1).jump_ms
    new.tick("new", 1)
    assert duties(new) == NOTHING


def test_after_an_hour_it_goes_on(world: World) -> None:
    batcher = world.first
    fill(world)
    world.jump(2 * DAY_MS)
    batcher.tick("first", 1)
    world.pass_ms(HELD_MS - 1)
    batcher.tick("first", 1)
    assert batcher.expire(100) == 0
    world.pass_ms(1)
    assert batcher.expire(100) == 1
    assert state_of(batcher, "waits") == "dead"


def test_a_clock_that_is_put_right_lifts_it(world: World) -> None:
    batcher = world.first
    fill(world)
    world.jump(2 * DAY_MS)
    batcher.tick("first", 1)
    assert overview(batcher.scripts).held
    world.jump(-2 * DAY_MS)
    world.pass_ms(CHECK_MS)
    assert batcher.tick("first", 1).jump_ms < 0
    assert not overview(batcher.scripts).held
    assert duties(batcher) == NOTHING
    world.pass_ms(16_000)
    batcher.tick("first", 1)
    assert batcher.reclaim(100, chance=0).recovered == 1  # its lease is less than two days away


def test_status_doctor_and_cleanup_tell_of_it(
    world: World, environment: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    batcher = world.first
    fill(world)
    world.jump(2 * DAY_MS)
    batcher.tick("first", 1)
    shown = take(batcher)
    assert system_status(shown).expiry_held_until == pytest.approx(
        (world.bench.now_ms + HELD_MS) / 1_000
    )
    assert "jumped ahead by 2 d" in dict(facts(shown))["expiry"]
    check = service_checks.expiry(read_work(batcher.scripts, "callbacks", "callbacks"))
    assert (check.verdict, "cleanup --expired" in check.todo) == (CheckStatus.FAILURE, True)
    environment()
    monkeypatch.setattr(runtime.runtime().batcher.home, "scripts", batcher.scripts)
    result = CliRunner().invoke(main, ["cleanup", "--expired"])
    assert (result.exit_code, result.stdout) == (0, "0 callbacks recovered, 1 expired\n")
    assert state_of(batcher, "waits") == "dead"
    check = service_checks.expiry(read_work(batcher.scripts, "callbacks", "callbacks"))
    assert check.verdict is CheckStatus.OK


@pytest.mark.parametrize(
    ("redis_ms", "asked_s", "answered_s", "jump_ms"),
    [
        (1_003_000, 13.0, 13.1, 0),
        (1_070_000, 13.0, 75.0, 0),  # Redis stood still for a minute before it answered
        (1_063_000, 13.0, 13.0, 0),
        (1_064_100, 13.0, 13.0, 61_000),
        (943_000, 13.0, 13.0, 0),
        (941_000, 13.0, 13.0, -61_900),
        (4_600_000, 3_610.0, 3_610.0, 0),  # this process was asleep
    ],
)
def test_a_jump_is_what_neither_waiting_nor_sleeping_explains(
    redis_ms: int, asked_s: float, answered_s: float, jump_ms: int
) -> None:
    clock = RedisClock()
    clock.keep(Seen(1_000_000, 9.9, 10.0))
    found = clock.jump_ms(Seen(redis_ms, asked_s, answered_s))
    assert found == pytest.approx(jump_ms, abs=1_100)
    assert bool(found) == bool(jump_ms)


def test_a_clock_that_is_set_right_long_after_its_jump_lifts_the_hold(world: World) -> None:
    fill(world)
    world.jump(5 * 60_000)
    assert world.first.tick("first", 1).jump_ms > 0
    for _ in range(10):
        world.pass_ms(60_000)
        world.first.tick("first", 1)
    assert overview(world.first.scripts).held
    world.jump(-5 * 60_000)
    assert world.first.tick("first", 1).jump_ms < 0
    assert not overview(world.first.scripts).held
