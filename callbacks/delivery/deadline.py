"""When an attempt has to end, how long each of its steps may take, and how long it took."""

from __future__ import annotations

import time
from enum import IntEnum
from typing import NamedTuple

from callbacks.model import Steps


class Deadline:
    """The instant by which an attempt has to end, on this process's monotonic clock."""

    __slots__ = ("_ends_at", "_seconds")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._ends_at = time.monotonic() + seconds

    def left(self) -> float:
        """The remaining seconds; raises TimeoutError if there are none."""
        left = self._ends_at - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"the attempt did not end within its {self._seconds:g} s")
        return left

    def at_most(self, seconds: float) -> Deadline:
        """A deadline in `seconds` from now, or this one if it is earlier."""
        return Deadline(min(seconds, self._ends_at - time.monotonic()))


class Step(IntEnum):
    """What a request is at, as ordered in `Steps`."""

    LOOKUP = 0
    CONNECT = 1
    TLS = 2
    REQUEST = 3
    ANSWER = 4
    REST = 5


class Stopwatch:
    """Notes when each step of one request began, so that a failed one tells how far it came.

    `began`: on the monotonic clock. `reused`: see `Steps`.
    """

    __slots__ = ("_marks", "began", "reused")

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.reused: bool | None = None
        self._marks: list[tuple[Step, float]] = []

    def enter(self, step: Step) -> None:
        """Begin a step, which ends with the next one."""
        self._marks.append((step, time.monotonic()))

    def steps(self, ended: float) -> Steps:
        """How long each step took until then, rounded so that they add up to the whole."""
        began, took = self.began, [0.0] * len(Step)
        after = round((ended - began) * 1_000)  # in each attempt: what would read better is slower
        for step, at in reversed(self._marks):
            since = round((at - began) * 1_000)
            if since < after:
                took[step], after = (after - since) / 1_000, since
        lookup, connect, tls, request, answer, _ = took
        return Steps(lookup, connect, tls, request, answer, self.reused)


class Limits(NamedTuple):
    """The time limits of one attempt, and its stopwatch.

    `connect_s` bounds connecting to one address, and the TLS handshake after it; `read_s` each
    wait for the receiver; `deadline` the whole attempt, name lookup included.
    """

    connect_s: float
    read_s: float
    deadline: Deadline
    watch: Stopwatch
