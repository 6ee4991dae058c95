"""What operators do meanwhile: cancel, pause, resume, forgive, replay and purge.

Each may be repeated because its answer was lost, and must then give the same answer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from hypothesis import strategies as st
from hypothesis.stateful import rule

from callbacks.batcher.store import ANSWER_MS
from callbacks.model import Answer, Cancelled, Reason
from tests.redis.driver import DAY_MS, Driver
from tests.redis.ledger import FINAL, LIVE

ANSWERS: Final = (
    Answer(200, None, duration=0.02),
    Answer(200, None, duration=0.02),
    Answer(204, None, duration=3.0),
    Answer(500, None, duration=0.02),
    Answer(503, None, duration=0.02),
    Answer(503, None, retry_after="7"),
    Answer(429, None),
    Answer(429, None, retry_after="90"),
    Answer(410, None),
    Answer(404, None),
    Answer(None, Reason.TIMEOUT, duration=9.0),
    Answer(None, Reason.CONNECT),
)
FAULTS: Final = tuple(answer for answer in ANSWERS if (answer.status or 500) == 500)
LANE: Final = "https://a.example:443#1"
ALL_LANES: Final = "https://a.example:443#*"
DESTINATIONS: Final = (*(f"https://{name}.example:443" for name in "abc"), LANE)
ANY: Final = st.integers(0, 9)
#: Known and unknown ones, some more than once.
IDS: Final = st.lists(ANY.map("c-{}".format) | st.just("nobody"), min_size=1, max_size=6)
_LOST: Final = st.sampled_from([False, False, True])


class Operator(Driver):
    """The rules for operators, in any order among the others."""

    # Cancel

    @rule(n=st.integers(0, 10))
    def cancel(self, n: int) -> None:
        self.cancel_one(f"c-{n}")

    @rule(place=ANY, phase=st.sampled_from(["queued", *LIVE, *FINAL]), lost=_LOST)
    def cancel_somewhere(self, place: int, phase: str, lost: bool) -> None:
        """In every state, and repeated if the first answer was lost."""
        e = self.obtain(place, phase)
        if e is None:
            return
        first = self.cancel_one(e.id)
        if lost:
            assert self.cancel_one(e.id) is first
            self.assert_unchanged()

    @rule(
        place=ANY,
        phase=st.sampled_from(["claimed", "sending"]),
        answer=st.sampled_from([None, ANSWERS[0], *FAULTS]),
    )
    def cancel_under_way(self, place: int, phase: str, answer: Answer | None) -> None:
        e = self.obtain(place, phase)
        if e is None:
            return
        self.cancel_one(e.id)
        if answer:
            self.settle(e.id, e.token or "", e.attempts, answer)

    @rule(place=ANY, ms=st.sampled_from([5, 11, 60, 300, 1_000]))
    def cancel_asleep(self, place: int, ms: int) -> None:
        """Its sender is stopped past its instant and asks for a new one."""
        e = self.obtain(place, "sending")
        if e is None:
            return
        self.cancel_one(e.id)
        self.advance(ms)
        self.begin(e.id, e.token or "", e.nonce or "")

    def cancel_one(self, id: str) -> Cancelled:
        self.check()
        expected = self.ledger.cancel(id, self.now)
        assert self.do(lambda: self.batcher.cancel(id)) is expected
        return expected

    # Pause and resume

    @rule(place=ANY, all=st.booleans(), lost=_LOST)
    def pause_under_way(self, place: int, all: bool, lost: bool) -> None:
        """Claimed callbacks meet a pause at the gate."""
        e = self.obtain(place, "claimed", "retry")
        if e is not None:
            self.pause(None if all else e.destination)
            self.begin_in_time(e)
            self.resume(None if all else e.destination, lost)

    @rule(n=ANY, where=st.sampled_from(DESTINATIONS))
    def pause_for_days(self, n: int, where: str) -> None:
        self.pause(where)
        self.advance(DAY_MS + 1_000)
        self.expire_some(100)
        self.put(f"c-{n}", where, "x")

    @rule(where=st.sampled_from([None, *DESTINATIONS, ALL_LANES]))
    def pause(self, where: str | None) -> None:
        flying = self.ledger.in_flight(where, self.now)
        assert self.do(lambda: self._pause(where)) == flying
        self.ledger.paused = self.ledger.paused or where is None
        if where == ALL_LANES:
            self.ledger.resumed_lanes.clear()
        self.ledger.paused_destinations |= {where} - {None}

    def _pause(self, where: str | None) -> int:
        flying = self.batcher.pause(where)
        if where == ALL_LANES:
            self.batcher.withdraw([LANE])
        return flying

    @rule(where=st.sampled_from([None, *DESTINATIONS, ALL_LANES]), lost=_LOST)
    def resume(self, where: str | None, lost: bool = False) -> None:
        was = self.ledger.paused if where is None else self.ledger.is_paused(where)
        nonce = self.nonce()
        changed = self.do(lambda: self._resume(where, nonce))
        assert changed or not was
        left = self.seen.of(f"dest:{where}" if where else "state").keys()
        assert not left & {"paused", "hold", "broken", "interval"}
        self.ledger.paused = self.ledger.paused and where is not None
        self.ledger.paused_destinations -= {where, LANE if where == ALL_LANES else None}
        self.ledger.resumed_lanes |= {where} & {LANE}
        if lost and where != ALL_LANES:
            assert self.do(lambda: self.batcher.resume(where, nonce=nonce)) == changed
            self.assert_unchanged()

    def _resume(self, where: str | None, nonce: str) -> bool:
        changed = self.batcher.resume(where, nonce=nonce)
        if where == ALL_LANES:
            self.batcher.call_back([LANE])
        return changed

    # URLs that are gone, and dead letters

    @rule(where=st.sampled_from(DESTINATIONS), path=st.sampled_from("xy"), lost=_LOST)
    def forgive(self, where: str, path: str, lost: bool) -> None:
        self._forgive(f"{where}/{path}", lost)

    @rule(place=ANY, lost=_LOST)
    def forgive_at_once(self, place: int, lost: bool) -> None:
        e = self.obtain(place, "sending")
        if e is not None:
            self.settle(e.id, e.token or "", e.attempts, Answer(410, None))
            self._forgive(e.url, lost)

    def _forgive(self, url: str, lost: bool) -> None:
        nonce = self.nonce()
        marked = url in self.ledger.gone
        self._answers(lambda: self.batcher.forgive(url, nonce=nonce), marked, lost=lost)
        self.ledger.gone.discard(url)

    @rule(ids=IDS, lost=_LOST)
    def replay(self, ids: list[str], lost: bool) -> None:
        ids, nonce = self._with_a_dead_one(ids), self.nonce()
        expected = self.ledger.replay(ids, self.now)
        self._answers(lambda: self.batcher.replay(ids, nonce=nonce), expected, lost=lost)

    @rule(ids=IDS, lost=_LOST)
    def purge(self, ids: list[str], lost: bool) -> None:
        ids, nonce = self._with_a_dead_one(ids), self.nonce()
        expected = self.ledger.purge(ids)
        self._answers(lambda: self.batcher.purge(ids, nonce=nonce), expected, lost=lost)

    @rule(place=ANY)
    def replay_late(self, place: int) -> None:
        """Its answer is lost, and the callback dies again before it is repeated."""
        e = self.obtain(place, "dead")
        if e is None:
            return
        replayed, nonce = self.now, self.nonce()
        self.check()
        assert self.ledger.replay([e.id], self.now) == 1
        assert self.do(lambda: self.batcher.replay([e.id], nonce=nonce)) == 1
        self.await_ready()
        self.dispatch_once("a")
        if e.phase == "claimed":
            self.begin_in_time(e)
        if e.phase == "sending":
            self.settle(e.id, e.token or "", e.attempts, Answer(404, None))
        if self.now - replayed < ANSWER_MS:
            assert self.do(lambda: self.batcher.replay([e.id], nonce=nonce)) == 1
            self.assert_unchanged()

    def _with_a_dead_one(self, ids: list[str]) -> list[str]:
        dead = self.obtain(len(ids), "dead")
        self.check()
        return [*ids, dead.id, ids[0]] if dead else ids

    def _answers(self, call: Callable[[], int], expected: int, *, lost: bool) -> None:
        assert self.do(call) == expected
        if lost:
            assert self.do(call) == expected
            self.assert_unchanged()
