"""How fast callbacks are enqueued: one producer, one thread, no workers."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Final

from scripts.benchmark.contenders import Contender, Place, bullmq, celery, ours
from scripts.benchmark.options import Options, Say
from scripts.benchmark.table import Row, compared
from tests.support.server import Server

SECTION: Final = "enqueue, one process and thread"
#: Nothing listens there, and nothing is sent.
_URL: Final = "http://127.0.0.1:9/hooks/ai"


def rows(options: Options, with_bullmq: bool, say: Say) -> list[Row]:
    """One call each compared with Celery, and many in one call compared with BullMQ."""
    few, many = options.at_most(500, 3_000), options.at_most(2_000, 10_000)
    single = ours(1, 1, {}, way="single")
    bulk = ours(1, 1, {}, way="bulk")
    tasks = ours(1, 1, {}, way="asynchronous")
    pairs = [
        (f"enqueue, {few:,} calls, Celery apply_async", single, celery("threads", 1, 1), few),
        (f"aenqueue, {few:,} calls by 50 tasks, enqueue", tasks, single, few),
    ]
    if with_bullmq:
        pairs.append((f"enqueue_many of {many:,}, BullMQ addBulk", bulk, bullmq(1, 1), many))
    if not options.quick:
        pairs.append(
            (f"enqueue_many of {many:,}, Celery apply_async", bulk, celery("threads", 1, 1), many)
        )
    return [
        _pair(what, one, other, count, options=options, say=say)
        for what, one, other, count in pairs
    ]


def _pair(
    what: str, one: Contender, other: Contender, count: int, *, options: Options, say: Say
) -> Row:
    these, those = [], []
    for _ in range(options.rounds):
        these.append(_rate(one, count, options.new_server()))
        those.append(_rate(other, count, options.new_server()))
    row = compared(SECTION, what, these, those, "/s")
    say(f"{what}: {row.this}, {row.beside}")
    return row


def _rate(contender: Contender, count: int, server: Server) -> float:
    server.start()
    try:
        with tempfile.TemporaryDirectory(prefix="callbacks-bench-") as folder:
            told = contender.enqueue(Place(server.url, _URL, Path(folder)), count)
    finally:
        server.stop()
    return count / float(told["seconds"])
