"""What periodiq, the scheduler, needs of us, and whether it lives.

periodiq imports pendulum, 30 ms, so it is loaded only by processes that schedule or work.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, Final

import redis
from dramatiq import Middleware

from callbacks.log import log

#: Its messages that are older (s) are skipped: the next one has come by then.
_SKIP_DELAY_S: Final = 30


class Cron:
    """What `periodiq.cron` makes of a spec, made when a scheduler asks."""

    def __init__(self, spec: str) -> None:
        self._spec = spec

    def __str__(self) -> str:
        return self._spec

    def __getattr__(self, name: str) -> Any:
        return getattr(self._made, name)

    @cached_property
    def _made(self) -> Any:
        from periodiq import cron  # noqa: PLC0415 - see above

        return cron(self._spec)


class Periodic(Middleware):
    """`PeriodiqMiddleware`, loaded when a worker starts."""

    @property
    def actor_options(self) -> set[str]:
        """The option that holds a `Cron`."""
        return {"periodic"}

    def before_worker_boot(self, broker: Any, worker: Any) -> None:  # noqa: ARG002 - Dramatiq's shape
        """Load it before the first message waits for it."""
        _ = self._made

    def before_process_message(self, broker: Any, message: Any) -> None:
        """Skip what was scheduled too long ago."""
        self._made.before_process_message(broker, message)

    @cached_property
    def _made(self) -> Any:
        from periodiq import PeriodiqMiddleware  # noqa: PLC0415 - see above

        return PeriodiqMiddleware(skip_delay=_SKIP_DELAY_S)


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
