"""Repeats an action in the background of a test."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event, Thread
from types import TracebackType


class Again:
    """Calls `act` every `every` seconds in another thread, until the block ends."""

    def __init__(self, act: Callable[[], object], *, every: float) -> None:
        self.times = 0
        self._act, self._every = act, every
        self._stop = Event()
        self._thread = Thread(target=self._run, daemon=True)
        self._failed: Exception | None = None

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._act()
            except Exception as error:  # noqa: BLE001 - raised when the block ends
                self._failed = error
                return
            self.times += 1
            self._stop.wait(self._every)

    def __enter__(self) -> Again:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join(10)
        if self._failed is not None and error is None:
            raise self._failed
