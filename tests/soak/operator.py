"""The operator's side: cancels, pauses, resumes, replays and purges, until it gets an answer.

It is the only operator, so its answers hold until the end, and the verdict checks them.
"""

from __future__ import annotations

import random
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from itertools import islice
from typing import Final, TypeVar

from callbacks.batcher.inspector import PAGE, Inspector, overview
from callbacks.batcher.paging import pages
from callbacks.batcher.scripts import AWAY
from callbacks.batcher.shards import Shards
from callbacks.batcher.store import UNRESERVE_MS
from callbacks.model import Cancelled, State
from tests.soak.diary import Diary
from tests.soak.plan import Deed, DeedKind
from tests.soak.verdict import Cancel, Record

_PAUSE_S: Final = 0.2
#: It cancels some of those enqueued last, because they are in progress.
_RECENT: Final = 300
_MOST_DEAD: Final = 200
_NOBODY: Final = "soak-nobody"
#: What a second cancel may say after the first one; a request in flight may have ended.
_NEXT: Final = {
    Cancelled.CANCELLED: {Cancelled.CANCELLED},
    Cancelled.FINAL: {Cancelled.FINAL},
    Cancelled.IN_FLIGHT: {Cancelled.IN_FLIGHT, Cancelled.CANCELLED, Cancelled.FINAL},
}

_T = TypeVar("_T")


def read_records(inspector: Inspector, ids: Iterable[str]) -> dict[str, Record]:
    """Each callback as it is recorded; unknown ones are left out."""
    records: dict[str, Record] = {}
    for page in pages(ids, PAGE):
        for id, where in zip(page, inspector.where_many(page), strict=True):
            if where.state is not None:
                throttled = int(where.record.get("th", 0))
                records[id] = Record(where.status(id, where.state), throttled)
    return records


class Operator:
    """Carries out a plan's operations, one after another.

    `cancels`: the last answer for an id. `lives`: those that a callback had before its replays.
    `purged`: what was deleted. `troubles`: wrong answers.
    """

    def __init__(
        self,
        batcher: Shards,
        accepted: Mapping[str, float],
        diary: Diary,
        undisturbed: Callable[[], AbstractContextManager[None]],
    ) -> None:
        """`undisturbed`: within it no acknowledged write gets lost."""
        self.batcher, self.accepted, self.diary = batcher, accepted, diary
        self._undisturbed = undisturbed
        self.inspector = Inspector(batcher.scripts)
        self.cancels: dict[str, Cancel] = {}
        self.lives: dict[str, list[Record]] = {}
        self.purged: dict[str, Record] = {}
        self.troubles: list[str] = []
        self._ended = threading.Event()
        self._hands: dict[DeedKind, Callable[[Deed], None]] = {
            DeedKind.CANCEL: self._cancel,
            DeedKind.PAUSE_ALL: self._pause_all,
            DeedKind.PAUSE_ONE: self._pause_one,
            DeedKind.REPLAY: self._replay,
            DeedKind.PURGE: self._purge,
        }

    def run(self, deeds: Iterable[Deed], ended: threading.Event) -> None:
        """Do them all, each at its time or after the one before."""
        self._ended = ended
        for deed in deeds:
            if ended.wait(max(0.0, deed.at_s - self.diary.elapsed())):
                return
            self._hands[deed.kind](deed)

    def _insist(self, call: Callable[[], _T]) -> _T:
        """Repeat until there is an answer, as a person would."""
        while True:
            try:
                return call()
            except AWAY as error:
                self.diary.counts[f"operator: {type(error).__name__}"] += 1
                if self._ended.wait(_PAUSE_S):
                    raise

    def _act(self, call: Callable[[], _T]) -> _T:
        """Do something that has to last."""
        with self._undisturbed():
            return self._insist(call)

    def _note(self, deed: Deed, what: str) -> None:
        self.diary.note(f"OPERATOR {deed.kind.value}: {what}", kind=deed.kind.value)

    def _trouble(self, text: str) -> None:
        self.diary.note(text)
        self.troubles.append(text)

    def _records(self, ids: Iterable[str]) -> dict[str, Record]:
        wanted = list(ids)
        return self._insist(lambda: read_records(self.inspector, wanted))

    # Cancel

    def _cancel(self, deed: Deed) -> None:
        with self._undisturbed():
            self._cancel_some(deed)

    def _cancel_some(self, deed: Deed) -> None:
        chance = random.Random(deed.pick)
        recent = list(self.accepted)[-_RECENT:]
        ids = chance.sample(recent, min(len(recent), chance.randint(1, 20)))
        for id in (id for id in ids if id not in self.purged):
            self._cancel_one(id, again=chance.random() < 0.5)
        if self._insist(lambda: self.batcher.cancel(_NOBODY)) is not Cancelled.UNKNOWN:
            self._trouble(f"cancel knows {_NOBODY}")
        self._note(deed, " ".join(ids))

    def _cancel_one(self, id: str, *, again: bool) -> None:
        said = self._insist(lambda: self.batcher.cancel(id))
        if said is Cancelled.UNKNOWN:
            return self._trouble(f"cancel does not know {id}")
        if again:
            then = self._insist(lambda: self.batcher.cancel(id))
            if then not in _NEXT[said]:
                self._trouble(f"cancel of {id} said {said.name}, and then {then.name}")
        found = self._records([id]).get(id)
        if found is None:
            return self._trouble(f"{id} is gone after its cancel")
        if id not in self.cancels or said is not Cancelled.FINAL:
            self.cancels[id] = Cancel(said, found.status.attempts)
        return None

    # Pause and resume

    def _pause_all(self, deed: Deed) -> None:
        self._act(self.batcher.pause)
        began = self._attempts()
        self._note(deed, f"for {deed.length_s:.1f} s")
        self._ended.wait(deed.length_s)
        more = self._attempts() - began
        if more > 0:  # fewer if some were lost with a primary
            self._trouble(f"{more} attempts began while everything was paused")
        self._act(self.batcher.resume)

    def _attempts(self) -> int:
        return self._insist(lambda: overview(self.batcher.scripts)).totals["attempts"]

    def _pause_one(self, deed: Deed) -> None:
        known = self._records(list(self.accepted)[-_RECENT:])
        if not known:
            return
        names = sorted({record.status.destination for record in known.values()})
        where = names[int(deed.pick * len(names))]
        self._act(lambda: self.batcher.pause(where))
        self._note(deed, f"{where} for {deed.length_s:.1f} s")
        self._ended.wait(deed.length_s)
        self._act(lambda: self.batcher.resume(where))

    # Dead letters

    def _replay(self, deed: Deed) -> None:
        with self._undisturbed():
            self._replay_some(deed)

    def _replay_some(self, deed: Deed) -> None:
        nonce, dead = secrets.token_hex(8), self._some_dead(deed)
        ids = [*dead, _NOBODY, *list(dead)[:1]]
        done = self._insist(lambda: self.batcher.replay(ids, nonce=nonce))
        for id, record in dead.items():
            self.lives.setdefault(id, []).append(record)
            self.cancels.pop(id, None)
        self._expect(deed, done, len(dead))

    def _purge(self, deed: Deed) -> None:
        with self._undisturbed():
            self._purge_some(deed)

    def _purge_some(self, deed: Deed) -> None:
        nonce, dead = secrets.token_hex(8), self._some_dead(deed)
        ids = [*dead, _NOBODY, *list(dead)[:1]]
        done = self._insist(lambda: self.batcher.purge(ids, nonce=nonce))
        self.purged |= dead
        self._expect(deed, done, len(dead))

    def _some_dead(self, deed: Deed) -> dict[str, Record]:
        """Half of the dead letters that the producer will not enqueue again.

        The reservation of an id that was just enqueued outlives a purge, and the audit finds it.
        """
        found = self._insist(lambda: list(islice(self.inspector.members("dead"), _MOST_DEAD)))
        before_s = time.time() - UNRESERVE_MS / 1_000 - 1
        known = sorted({id for id in found if self.accepted.get(id, before_s) < before_s})
        some = random.Random(deed.pick).sample(known, (len(known) + 1) // 2)
        records = self._records(some)
        return {id: r for id, r in records.items() if r.status.state is State.DEAD}

    def _expect(self, deed: Deed, done: int, expected: int) -> None:
        self._note(deed, f"{done}")
        self.diary.counts[f"{deed.kind.value}: callbacks"] += done
        if done != expected:
            self._trouble(f"{deed.kind.value}: {done} instead of {expected}")
