"""Administration: what the commands and the console do, for Python code.

    from callbacks import admin

    for callback in admin.list("dead", destination="https://customer.example"):
        print(callback.id, callback.reason, callback.said)
    admin.replay(destination="https://customer.example", why="their fix is live")

Every function takes the filters of its command and returns a frozen value, see
`callbacks.admin.values`: seconds as floats, instants in seconds since 1970. `document` turns any of
these values into what `--json` prints. Long lists come in pages with a cursor, long work goes in
steps with a hook for progress.

All raise `InvalidCallback` for bad input, `SettingsError` for a bad setting, redis'
`ConnectionError` or `TimeoutError` if Redis cannot be reached, and `RedisRefused` if it answers
but does not do it. What changes something takes `why` and `who`, for the journal (`log`); `who` is
by default the user and machine that run this process.
"""

from __future__ import annotations

from callbacks.admin.dead import purge, replay
from callbacks.admin.documents import document
from callbacks.admin.looking import (
    SORTS,
    destination,
    destinations,
    iterate,
    iterate_destinations,
    log,
    show,
    status,
)
from callbacks.admin.looking import list_callbacks as list  # noqa: A004 - the command's name
from callbacks.admin.steering import cancel, flush, pause, resume
from callbacks.admin.upkeep import audit, cleanup
from callbacks.admin.values import (
    Audit,
    Cancellation,
    Cleanup,
    DeadLetters,
    DeliveryDelay,
    Destination,
    Flush,
    LastHour,
    Page,
    Pause,
    Problem,
    Resumption,
    Story,
    SystemStatus,
    TroubledDestination,
    WorkerProcess,
)
from callbacks.batcher.journal import Act

__all__ = [
    "SORTS",
    "Act",
    "Audit",
    "Cancellation",
    "Cleanup",
    "DeadLetters",
    "DeliveryDelay",
    "Destination",
    "Flush",
    "LastHour",
    "Page",
    "Pause",
    "Problem",
    "Resumption",
    "Story",
    "SystemStatus",
    "TroubledDestination",
    "WorkerProcess",
    "audit",
    "cancel",
    "cleanup",
    "destination",
    "destinations",
    "document",
    "flush",
    "iterate",
    "iterate_destinations",
    "list",
    "log",
    "pause",
    "purge",
    "replay",
    "resume",
    "show",
    "status",
]
