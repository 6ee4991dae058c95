"""Lines of Dramatiq's consumers while Redis is away."""

from __future__ import annotations

import logging

from callbacks.log import Calm


def record(name: str, message: str, level: int = logging.CRITICAL) -> logging.LogRecord:
    return logging.LogRecord(name, level, "", 0, message, ("reason",), None)


def test_a_repeated_line_of_a_consumer_passes_once_in_30_s_and_says_how_many_there_were() -> None:
    now = [0.0]
    calm = Calm(lambda: now[0])
    consumer = "dramatiq.worker.ConsumerThread(callbacks)"
    assert calm.filter(record(consumer, "error: %s"))
    for _ in range(9):
        now[0] += 3
        assert not calm.filter(record(consumer, "error: %s"))
    now[0] += 3
    last = record(consumer, "error: %s")
    assert calm.filter(last)
    assert last.getMessage() == "error: reason (9 more like this before)"
    now[0] += 30
    again = record(consumer, "error: %s")
    assert calm.filter(again)
    assert again.getMessage() == "error: reason"


def test_other_lines_other_consumers_and_other_loggers_pass() -> None:
    calm = Calm(lambda: 0.0)
    for name, message in (
        ("dramatiq.worker.ConsumerThread(callbacks)", "one: %s"),
        ("dramatiq.worker.ConsumerThread(callbacks)", "two: %s"),
        ("dramatiq.worker.ConsumerThread(callbacks.DQ)", "one: %s"),
    ):
        assert calm.filter(record(name, message))
        assert not calm.filter(record(name, message))
    for _ in range(2):
        assert calm.filter(record("dramatiq.worker.WorkerThread", "failed: %s"))
        assert calm.filter(record("dramatiq.worker.ConsumerThread(x)", "seen: %s", logging.DEBUG))
