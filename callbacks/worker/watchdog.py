"""Ends a worker process that makes no progress although work is due; its supervisor restarts it.

Everything here is made to come back by itself; this is for what nobody thought of, such as a
thread that died or hangs. A Redis that is away is no reason: a restart would not help.

It watches from a real thread: where greenlets stand in for threads, one that blocks stops all.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Protocol

from dramatiq import Middleware
from dramatiq.common import q_name

from callbacks.log import log
from callbacks.native import has_greenlets, native
from callbacks.worker.consumer import QUEUE, consumer_of
from callbacks.worker.liveness import Liveness

#: A part that has not got on for so long is suspect ...
PATIENCE_S: Final = 60.0
#: ... and after so much more the process ends: whoever waited for Redis has come back by then.
CONFIRM_S: Final = 30.0
#: The exit status, EX_SOFTWARE of sysexits.h; Dramatiq's parent ends with the highest one.
STATUS: Final = 70

MESSAGES: Final = "messages"


class Due(Protocol):
    """Tells whether work is due; raises if Redis does not answer."""

    def __call__(self) -> bool:
        """Look over a connection of its own: the process's pool may be what is broken."""
        ...


class Watch:
    """The decision of the watchdog, one look at a time."""

    def __init__(self, liveness: Liveness, due: Due) -> None:
        self._liveness = liveness
        self._due = due
        self._suspected = False

    def verdict(self, *, patience_s: float, confirm_s: float) -> dict[str, float]:
        """Give the parts for whose sake the process has to end, mostly none.

        A suspicion needs a second look, so that a process that slept, or whose Redis has just
        come back, gets the time to get on.
        """
        stale = self._liveness.stale(patience_s)
        if not stale:
            self._suspected = False
            return {}
        if not self._asks():
            self._liveness.forgive()
            self._suspected = False
            return {}
        if not self._suspected:
            self._suspected = True
            log.warning("watchdog", suspects=", ".join(sorted(stale)))
            return {}
        return self._liveness.stale(patience_s + confirm_s)

    def _asks(self) -> bool:
        try:
            return self._due()
        except Exception as error:  # noqa: BLE001 - Redis is away, or a fault of ours: no stall
            log.warning("watchdog", cannot_look=f"{type(error).__name__}: {error}")
            return False


class Watchdog(Middleware):
    """Watches the consumers, the ticker and the messages in work of this process."""

    def __init__(
        self,
        liveness: Liveness,
        due: Due,
        attempt_s: Callable[[], float],
        interval_s: Callable[[], float],
    ) -> None:
        self._liveness = liveness
        self._watch = Watch(liveness, due)
        self._attempt_s = attempt_s
        self._interval_s = interval_s
        self._working: set[str] = set()
        # Held over a look at the set and what follows from it: the last message's end must not
        # drop what the next one, just begun, is expected to do.
        self._count = threading.Lock()
        self._watching: Any = None  # a lock, held while it watches
        self._home = 0

    def after_worker_boot(self, broker: Any, worker: Any) -> None:
        """Start watching whichever of our queues this worker consumes."""
        for name in worker.consumers:
            if q_name(name) == QUEUE:
                self._liveness.beat(consumer_of(name))
        self._home = native("_thread", "get_ident")()
        self._watching = native("_thread", "allocate_lock")()
        self._watching.acquire()
        native("_thread", "start_new_thread")(self._run, (broker, self._watching))

    def before_worker_shutdown(self, broker: Any, worker: Any) -> None:
        """Stop watching: what is slow now is waited for by others."""
        self._watching.release()

    def before_process_message(self, broker: Any, message: Any) -> None:
        """Expect messages to end while there are some of ours in work."""
        if message.queue_name != QUEUE:
            return
        with self._count:
            if not self._working:
                self._liveness.beat(MESSAGES)
            self._working.add(message.message_id)

    def after_process_message(
        self, broker: Any, message: Any, *, result: Any = None, exception: Any = None
    ) -> None:
        """One has ended."""
        if message.queue_name != QUEUE:
            return
        with self._count:
            self._working.discard(message.message_id)
            if self._working:
                self._liveness.beat(MESSAGES)
            else:
                self._liveness.drop(MESSAGES)

    after_skip_message = after_process_message

    def _run(self, broker: Any, watching: Any) -> None:
        # Neither a slow receiver nor a ticker that waits for its turn is a stall.
        patience_s = PATIENCE_S + self._attempt_s() + self._interval_s()
        while not watching.acquire(timeout=CONFIRM_S):
            dead = self._watch.verdict(patience_s=patience_s, confirm_s=CONFIRM_S)
            if dead:
                self._end(broker, dead)

    def _end(self, broker: Any, dead: dict[str, float]) -> None:
        """Let requests in flight end, then go without asking threads that may hang."""
        parts = ", ".join(f"{name} for {age:.0f} s" for name, age in sorted(dead.items()))
        broker.stopping = True
        attempt_s = self._attempt_s()
        with suppress(RuntimeError):  # the system has no more threads
            native("_thread", "start_new_thread")(_exit_after, (attempt_s,))  # the line may hang
        where = self._blocked_at()
        log.critical("watchdog", no_progress=parts, blocked_at=where, status=STATUS)
        _exit_after(attempt_s)

    def _blocked_at(self) -> str | None:
        """Say where the one thread of all greenlets is; of many threads one tells little."""
        if not has_greenlets():
            return None
        frame = sys._current_frames()[self._home]  # noqa: SLF001 - documented, named so as a warning
        code = frame.f_code
        return f"{Path(code.co_filename).name}:{frame.f_lineno} in {code.co_name}"


def _exit_after(seconds: float) -> None:
    native("time", "sleep")(seconds)
    os._exit(STATUS)
