"""The rounds of the ticker over several shards: which it visits, and what each may use.

Each look costs two plain commands a shard. Only shards with something to do are visited, and one
other every half minute, in turn: so an idle system costs little, however many shards it has.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from callbacks.batcher.clock import HELD_MS
from callbacks.batcher.errors import AWAY
from callbacks.batcher.shards import Shards, Word
from callbacks.batcher.store import Batcher
from callbacks.log import log
from callbacks.model import Tick
from callbacks.policy.shares import fair_shares

#: How often a shard is visited that has nothing to do: one of all.
IDLE_S: Final = 30.0
#: How long a shard is visited after its last callback: deaths are told of a second later.
LINGER_S: Final = 5.0
#: How long a shard is left alone whose Redis was away: each try may take a connection's timeouts.
AWAY_S: Final = 10.0
#: The name under which a shard has the places of all workers.
_ALL: Final = "all"


@dataclass(frozen=True, slots=True)
class WorkerPlaces:
    """Threads or greenlets of all workers, and how many unproven destinations may take."""

    threads: int
    unproven: int


class Rounds:
    """What one process remembers of the shards from round to round."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._visit_until: dict[int, float] = {}
        self._away_until: dict[int, float] = {}
        self._words: dict[int, Word] = {}
        self._epochs: dict[int, str] = {}
        self._turn = 0
        self._idle_at = float("-inf")

    def choose(self, words: Sequence[Word | None], *, interval_s: float) -> list[int]:
        """The shards to visit now; in the first round all. None: it cannot be reached."""
        now = self._monotonic()
        if not self._words:
            self._idle_at = now
        for shard, word in enumerate(words):
            if word is None:
                self._away_until[shard] = now + AWAY_S
                continue
            self._away_until.pop(shard, None)
            if self._is_busy(shard, word):
                self._visit_until[shard] = now + LINGER_S + 2 * interval_s
            self._words[shard] = word
        chosen = {shard for shard, until in self._visit_until.items() if until >= now}
        if now - self._idle_at >= IDLE_S:
            self._idle_at = now
            self._turn = (self._turn + 1) % len(words)
            chosen.add(self._turn)
        return sorted(shard for shard in chosen if self._away_until.get(shard, now) <= now)

    def _is_busy(self, shard: int, word: Word) -> bool:
        before = self._words.get(shard)
        lost = word.epoch != self._epochs.get(shard, word.epoch)
        return (
            word.live
            or word.full
            or lost
            or before is None
            or (before.last_batch_ms != word.last_batch_ms)
        )

    def visit(
        self,
        shards: Shards,
        chosen: Sequence[int],
        places: WorkerPlaces,
        duties: Callable[[Batcher], object],
        *,
        beat: Callable[[], object],
    ) -> None:
        """Tell each shard what it may use, and do its duties; raises the first error at the end.

        A shard whose Redis is away keeps none of the others from its turn.
        """
        first: Exception | None = None
        visited = [shards.shards[shard] for shard in chosen]
        for one, its in zip(visited, self._shares(visited, places, shards), strict=True):
            beat()
            try:
                self._tick(one, its)
                duties(one)
            except Exception as error:  # noqa: BLE001 - raised below, after the others' turn
                first = first or error
                if isinstance(error, AWAY):
                    self._away_until[one.shard or 0] = self._monotonic() + AWAY_S
        if first is not None:
            raise first

    def _shares(
        self, visited: Sequence[Batcher], places: WorkerPlaces, shards: Shards
    ) -> list[WorkerPlaces]:
        if not places.unproven:  # no worker has told
            return [WorkerPlaces(0, 0)] * len(visited)
        loads = [self._load(one) for one in visited]
        busy = [n for n, load in enumerate(loads) if any(load)]
        idle = WorkerPlaces(places.threads // shards.count, places.unproven // shards.count)
        found = [idle] * len(visited)
        threads = fair_shares(places.threads, [loads[n][1] for n in busy])
        unproven = fair_shares(places.unproven, [loads[n][0] for n in busy])
        for n, its_threads, its_unproven in zip(busy, threads, unproven, strict=True):
            found[n] = WorkerPlaces(its_threads, its_unproven)
        return [WorkerPlaces(max(1, its.threads), max(1, its.unproven)) for its in found]

    def _load(self, one: Batcher) -> tuple[int, int]:
        try:
            return one.load()
        except Exception:  # noqa: BLE001 - its tick raises it, in its turn
            return 0, 0

    def _tick(self, one: Batcher, its: WorkerPlaces) -> None:
        """Give a shard its part of all places, and see whether it still has its data."""
        shard = one.shard or 0
        known = self._epochs.get(shard, "")
        tick = one.tick(_ALL, 1, known=known, threads=its.threads, places=its.unproven)
        self._epochs[shard] = tick.epoch
        log_tick(tick, known=known, shard=shard)


def log_tick(tick: Tick, *, known: str, shard: int | None = None) -> None:
    """Log what a tick noticed: other data than the `known`, or a jump of Redis' clock."""
    if tick.lost:
        log.error("redis_lost_data", shard=shard, knew=known, found=tick.epoch)
    if tick.jump_ms:
        log.error(
            "redis_clock_jumped",
            shard=shard,
            by_s=round(tick.jump_ms / 1_000),
            expiry_held_s=HELD_MS // 1_000 if tick.jump_ms > 0 else 0,
        )
