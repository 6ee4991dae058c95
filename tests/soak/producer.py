"""The application's side: enqueues callbacks, and repeats with the same id after an error."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import redis

import callbacks
from callbacks.model import QueueFull
from tests.soak.diary import Diary
from tests.soak.plan import Burst, expires_in, name

_PAUSE_S: Final = 0.2
#: What an enqueue is documented to raise. Anything else is a finding.
_REPEATED: Final = (redis.ConnectionError, redis.TimeoutError, QueueFull)


class Producer:
    """Enqueues a plan's bursts. `accepted`: when (s since 1970) the enqueue of an id returned."""

    def __init__(
        self, environ: Mapping[str, str], url_of: Callable[[int], str], diary: Diary
    ) -> None:
        os.environ.update(environ)
        self.url_of, self.diary = url_of, diary
        self.accepted: dict[str, float] = {}

    def run(self, bursts: Sequence[Burst], closed: threading.Event) -> None:
        """Enqueue all, each burst at its time or after the one before."""
        for burst in bursts:
            if closed.wait(max(0.0, burst.at_s - self.diary.elapsed())):
                return
            items = [self._item(n) for n in range(burst.first, burst.first + burst.size)]
            self._hand_in(items, burst, closed)

    def _hand_in(self, items: list[dict[str, Any]], burst: Burst, closed: threading.Event) -> None:
        if burst.together:
            self._repeat(lambda: callbacks.enqueue_many(items), items, closed)
            return
        for item in items:
            self._repeat(lambda item=item: callbacks.enqueue(**item), [item], closed)

    def _item(self, number: int) -> dict[str, Any]:
        url = self.url_of(number)
        return {
            "callback_url": url,
            "data": {"number": number, "status": "succeeded"},
            "id": name(number),
            "lane": url.rpartition("/")[2],
            "expires_in": expires_in(number),
        }

    def _repeat(
        self, hand_in: Callable[[], object], items: list[dict[str, Any]], closed: threading.Event
    ) -> None:
        """Repeat until it is accepted, as an application that must not lose one does."""
        noted: set[str] = set()
        while not closed.is_set():
            try:
                hand_in()
            except _REPEATED as error:
                kind = type(error).__name__
                self.diary.counts[f"producer: {kind}"] += 1
                if kind not in noted:
                    self.diary.note(f"the producer got {kind}: {error}")
                    noted.add(kind)
                closed.wait(_PAUSE_S)
            else:
                now_s = time.time()
                self.accepted.update({item["id"]: now_s for item in items})
                return
