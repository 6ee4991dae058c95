"""How fast the receiver is by itself, and whether that makes the drains valid."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from typing import Final

from scripts.benchmark.processes import python
from scripts.benchmark.receiver import ReceiverProcess
from scripts.benchmark.table import Row, compared, figure

#: Requests per second that the receiver must handle by itself, not to slow down a drain.
ENOUGH_PER_S: Final = 20_000


def rates(receiver: ReceiverProcess, count: int, rounds: int) -> list[float]:
    """Requests per second in each round: raw ones on many connections, see `load.py`."""
    return [_rate(receiver, count) for _ in range(rounds)]


def _rate(receiver: ReceiverProcess, count: int) -> float:
    receiver.reset()
    command = python("-m", "scripts.benchmark.load", str(receiver.port), str(count))
    subprocess.run(command, check=True)
    stats = receiver.stats()
    return float(stats["count"] / stats["seconds"])


def row(per_s: Sequence[float], count: int) -> Row:
    """The receiver's rate beside the one it needs."""
    what = f"{count:,} raw requests, beside what it needs to do"
    return compared("the receiver alone", what, per_s, [ENOUGH_PER_S] * len(per_s), "/s")


def marked(rows: list[Row], per_s: float) -> list[Row]:
    """The rows of drains, marked as not valid if the receiver may have slowed them down."""
    if per_s >= ENOUGH_PER_S or not rows:
        return rows
    what = f"NOT VALID: the receiver alone did {figure(per_s, '/s')}, not {ENOUGH_PER_S:,}"
    return [Row(rows[0].section, what), *rows]
