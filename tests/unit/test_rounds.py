"""Which shards the ticker visits."""

from __future__ import annotations

from dataclasses import replace

from callbacks.batcher.shards import Word
from callbacks.worker.rounds import IDLE_S, LINGER_S, Rounds

IDLE = Word(live=False, last_batch_ms=0, epoch="", full=False)


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def chosen(rounds: Rounds, **busy: Word) -> list[int]:
    words = [busy.get(f"s{n}", IDLE) for n in range(4)]
    return rounds.choose(words, interval_s=3)


def test_the_first_round_visits_all_and_an_idle_one_none() -> None:
    clock = Clock()
    rounds = Rounds(clock)
    assert chosen(rounds) == [0, 1, 2, 3]
    clock.now += LINGER_S + 2 * 3 + 1
    assert chosen(rounds) == []


def test_one_idle_shard_after_the_other_is_visited_now_and_then() -> None:
    clock = Clock()
    rounds = Rounds(clock)
    chosen(rounds)
    visited = []
    for _ in range(5):
        clock.now += IDLE_S
        visited += chosen(rounds)
        clock.now += 3
        assert chosen(rounds) == []
    assert visited == [1, 2, 3, 0, 1]


def test_a_busy_shard_is_visited_each_time_and_a_while_longer() -> None:
    clock = Clock()
    rounds = Rounds(clock)
    chosen(rounds)
    clock.now += 12
    assert chosen(rounds, s2=replace(IDLE, live=True)) == [2]
    clock.now += 3
    assert chosen(rounds) == [2]
    clock.now += 9
    assert chosen(rounds) == []


def test_a_shard_that_is_away_is_left_alone_and_visited_when_it_is_back() -> None:
    clock = Clock()
    rounds = Rounds(clock)
    chosen(rounds)
    clock.now += 12
    busy = replace(IDLE, live=True)
    assert rounds.choose([busy, None, busy, None], interval_s=3) == [0, 2]
    clock.now += 3
    assert rounds.choose([busy, busy, IDLE, None], interval_s=3) == [0, 1, 2]


def test_a_batch_between_two_looks_is_noticed_and_so_is_a_full_redis() -> None:
    clock = Clock()
    rounds = Rounds(clock)
    chosen(rounds)
    clock.now += 12
    assert chosen(rounds, s1=replace(IDLE, last_batch_ms=5)) == [1]
    clock.now += 12
    assert chosen(rounds, s1=replace(IDLE, last_batch_ms=5)) == []
    assert chosen(rounds, s3=replace(IDLE, full=True)) == [1, 3]  # 1: its batch has gone back
