"""The end of an example: whatever is left must become final, without any help."""

from __future__ import annotations

from typing import Final

from callbacks.batcher.store import LOCK_TTL_MS
from callbacks.model import Answer, Go, Later
from tests.redis.driver import Driver
from tests.redis.ledger import LIVE

_OK: Final = Answer(200, None, duration=0.02)
#: By then all holds, breakers, delays and crashes of an example are over; nothing has expired.
_AT_MOST_MS: Final = 6 * 3_600_000
_ROUNDS: Final = 150


def drain(driver: Driver) -> None:
    """Let time pass and workers work; raise `AssertionError` if something is stuck.

    Requests in flight at the start never end: their process has died.
    """
    began = driver.now
    for _ in range(_ROUNDS):
        if not driver.ledger.within("queued", *LIVE):
            return driver.audit()
        _work(driver)
        driver.advance(_next(driver) - driver.now)
        assert driver.now - began < _AT_MOST_MS, driver.ledger.within("queued", *LIVE)
    raise AssertionError(f"not final: {driver.ledger.within('queued', *LIVE)}")


def _work(driver: Driver) -> None:
    driver.reclaim_some(100, 0.5)
    driver.expire_some(100)
    driver.dispatch_once("drain")
    for e in driver.ledger.within("claimed", "retry"):
        token = e.token or ""
        gate = driver.begin(e.id, token, driver.nonce())
        if isinstance(gate, Go):
            driver.settle(e.id, token, e.attempts, _OK)
        if isinstance(gate, Later):
            driver.release(e.id, token, gate.due_ms, gate.why)


def _next(driver: Driver) -> int:
    """When something may happen next."""
    now = driver.now
    waiting = [e.due - 100 for e in driver.ledger.within("claimed", "retry")]
    dying = [e.lease for e in driver.ledger.within("sending")]
    places = [int(place) for place in driver.seen.ring().values() if place < float("inf")]
    times = waiting + dying + places
    assert times or not driver.ledger.within("queued", *LIVE), "nothing will ever happen again"
    if driver.seen.of("lock"):  # of a dead dispatcher
        return now + LOCK_TTL_MS
    return max(now + 500, min(times, default=now))
