"""What our worker processes do beside their messages: start cleanly, tick, stop once."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

import dramatiq.worker
from dramatiq import Middleware

from callbacks.log import log
from callbacks.worker.consumer import QUEUE
from callbacks.worker.liveness import Liveness

#: While Redis is away the ticker says so at most this often.
_COMPLAIN_S: Final = 30.0


class Boot(Middleware):
    """Checks the settings when a worker starts, and lets only the first SIGTERM through.

    On Heroku the platform signals every process and Dramatiq's parent passes the signal on;
    to Dramatiq's worker a second SIGTERM means "kill now", which orphans what is in flight.
    """

    def __init__(
        self,
        prepare: Callable[[], None],
        refuse: Callable[[], None],
        check: Callable[[], None],
        open_places: Callable[[int, bool], None],
    ) -> None:
        self._prepare = prepare
        self._refuse = refuse
        self._check = check
        self._open_places = open_places

    def before_worker_boot(self, broker: Any, worker: Any) -> None:
        """Validate the settings, configure logging, and refuse to start where something is wrong.

        By now the application's modules are imported, which may set more in code and have what
        settings name, and no thread has started. And learn how many messages this worker can
        process at a time, and whether ours: with `--queues` it may be there for an application's
        own alone.
        """
        self._prepare()
        self._refuse()
        queues = worker.consumer_whitelist
        self._open_places(worker.worker_threads, not queues or QUEUE in queues)

    def after_worker_boot(self, broker: Any, worker: Any) -> None:
        """Warn of what only hurts later."""
        self._check()

    def after_process_boot(self, broker: Any) -> None:
        """Keep the first signal the only one."""
        dramatiq.worker.join_all = join_all  # type: ignore[attr-defined]  # imported there
        if threading.current_thread() is threading.main_thread():
            only_once(signal.SIGTERM)


class Telemetry(Middleware):
    """Tells others of this worker: from its boot until the last request has ended."""

    def __init__(
        self, start: Callable[[], None], stop: Callable[[], None], flush: Callable[[], None]
    ) -> None:
        self._start, self._stop, self._flush = start, stop, flush

    def after_worker_boot(self, broker: Any, worker: Any) -> None:
        """Start."""
        self._start()

    def before_worker_shutdown(self, broker: Any, worker: Any) -> None:
        """Leave the figures to others."""
        self._stop()

    def after_worker_shutdown(self, broker: Any, worker: Any) -> None:
        """Tell the rest: all requests have ended, and are stored."""
        self._flush()


def join_all(joinables: Iterable[Any], timeout: float) -> None:
    """Join all within `timeout` ms, for Dramatiq's worker when it stops.

    Its own takes the whole time that has passed off what is left after each one: with 64 threads
    it waits for the first dozen, and cuts the requests of all others.
    """
    give_up = time.monotonic() + timeout / 1_000
    for each in joinables:
        each.join(timeout=max(0.0, give_up - time.monotonic()))


def only_once(signum: signal.Signals) -> None:
    """Let the present handler of a signal see it once; ignore it from then on."""
    handler = signal.getsignal(signum)
    if not callable(handler):
        return

    unused = [handler]

    def first(number: int, frame: Any) -> None:
        try:  # in one step: another signal may come in the middle of this, and be handled first
            handle = unused.pop()
        except IndexError:
            return
        handle(number, frame)

    signal.signal(signum, first)


class Ticker(Middleware):
    """A thread in each worker process that does the duties every check interval.

    All processes offer; `elect` picks one for each interval. So the duties go on while any
    worker lives, without a scheduler and without any message.
    """

    def __init__(
        self,
        interval_s: Callable[[], float],
        elect: Callable[[], bool],
        tick: Callable[[], None],
        liveness: Liveness,
    ) -> None:
        self._interval_s = interval_s
        self._elect = elect
        self._tick = tick
        self._liveness = liveness
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._complained_at = -_COMPLAIN_S

    def after_worker_boot(self, broker: Any, worker: Any) -> None:
        """Start ticking."""
        self._stop.clear()
        self._thread = threading.Thread(target=self._run, name="callbacks-ticker", daemon=True)
        self._thread.start()

    def before_worker_shutdown(self, broker: Any, worker: Any) -> None:
        """Stop ticking, and stop our consumers fetching: what they hold goes back."""
        broker.stopping = True
        self._stop.set()

    def _run(self) -> None:
        interval = self._interval_s()
        self._liveness.beat("ticker")
        self._stop.wait(random.uniform(0, min(1.0, interval)))  # noqa: S311 - spreads processes
        while not self._stop.is_set():
            self._once()
            self._stop.wait(interval)

    def _once(self) -> None:
        try:
            elected = self._elect()
            self._liveness.beat("ticker")
            if elected:
                self._tick()
        except Exception as error:  # noqa: BLE001 - the ticker outlives everything
            if time.monotonic() - self._complained_at >= _COMPLAIN_S:
                self._complained_at = time.monotonic()
                log.warning("tick_failed", error=f"{type(error).__name__}: {error}")
