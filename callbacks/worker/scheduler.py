"""Whether the scheduler lives: remembered each time that it sends one of its messages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import redis
from dramatiq import Middleware

from callbacks.log import log


class SchedulerHeartbeat(Middleware):
    """Calls `note` in the scheduler's process, where its messages pass on their way.

    periodiq marks them with `scheduled_at`. A note that fails is left out: the message counts.
    """

    def __init__(self, note: Callable[[], None]) -> None:
        self._note = note

    def after_enqueue(self, broker: Any, message: Any, delay: int | None) -> None:  # noqa: ARG002 - Dramatiq's shape
        """Note a periodic message that was sent."""
        if "scheduled_at" not in message.options:
            return
        try:
            self._note()
        except redis.RedisError as error:
            log.debug("schedule_unnoted", error=str(error))
