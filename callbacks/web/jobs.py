"""Long work that goes on while its page shows how far it is: one at a time in this process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from callbacks.admin import DeadLetters
from callbacks.admin.dead import Progress
from callbacks.log import log
from callbacks.text import many

#: For how long the result of a job is shown.
SHOWN_S: Final = 600.0
#: How long a process that ends waits for the step that is under way.
_END_S: Final = 5.0

_VERBS: Final = {"replay": "replayed", "purge": "purged", "count": "counted"}


class Stopped(Exception):
    """Somebody stopped the job."""


@dataclass(slots=True)
class Job:
    """A replay, purge or dry run (`count`) of some dead letters.

    `done` are changed (or counted) so far, `expected` at most. `problem`: why it ended early.
    """

    act: str
    what: str
    done: int = 0
    expected: int | None = None
    running: bool = True
    problem: str = ""
    ended_at: float = 0.0

    @property
    def tone(self) -> str:
        """How its result is shown."""
        return "bad" if self.problem else "" if self.running else "good"

    @property
    def words(self) -> str:
        """What it is doing, or did."""
        letters = many(self.done, "dead letter")
        if self.act == "count":
            told = f"{letters} match" if not self.running else f"dry run: {letters} match so far"
        else:
            told = f"{letters} {_VERBS[self.act]}" + (" so far" if self.running else "")
        return f"{told} ({self.what})" + (f"; {self.problem}" if self.problem else "")


class Jobs:
    """The job of this process: the one that runs, or the last one for a while."""

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._job: Job | None = None
        self._thread: threading.Thread | None = None
        self._stopped = False
        self.ended = 0  # how many have

    def current(self) -> Job | None:
        """The job to show, if any."""
        job = self._job
        if job and not job.running and self._monotonic() - job.ended_at > SHOWN_S:
            return None
        return job

    def start(self, job: Job, work: Callable[[Progress], DeadLetters]) -> bool:
        """Begin; False if another one is running."""
        with self._lock:
            if self._job and self._job.running:
                return False
            self._job, self._stopped = job, False
            self._thread = threading.Thread(target=self._run, args=(job, work), daemon=True)
            self._thread.start()
        return True

    def stop(self) -> None:
        """End the job after the step that is under way; what is done stays done."""
        self._stopped = True

    def end(self) -> None:
        """Stop the job because the process ends, and let it write its entry in the journal."""
        self.stop()
        if self._thread:
            self._thread.join(_END_S)

    def _run(self, job: Job, work: Callable[[Progress], DeadLetters]) -> None:
        def progress(done: int, expected: int | None) -> None:
            job.done, job.expected = done, expected
            if self._stopped:
                raise Stopped

        try:
            job.done = work(progress).count
        except Stopped:
            job.problem = "stopped"
        except Exception as error:  # noqa: BLE001 - whatever it is, the page has to say so
            job.problem = f"it ended early: {error}"
            log.warning("job_failed", act=job.act, error=str(error))
        finally:
            self.ended += 1
            job.ended_at, job.running = self._monotonic(), False
