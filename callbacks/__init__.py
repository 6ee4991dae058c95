"""HTTP callbacks, queued in Redis and delivered in paced batches.

Importing this opens no connection, starts no thread and configures no logging. It sets
Dramatiq's global broker only if none is set; the actors are bound to the package's own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from callbacks.worker.serving import check_dramatiq as _check_dramatiq

_check_dramatiq()

from callbacks import runtime as _runtime  # noqa: E402 - it needs a supported Dramatiq

_runtime.set_broker_where_none_is_set()

from callbacks.actors import (  # noqa: E402 - periodiq and dramatiq find the actors by import
    check_and_flush,
    cleanup_stuck,
    send_single_callback,
    trigger_batch_send,
)
from callbacks.aio import acancel, aenqueue, aenqueue_many, aget_status  # noqa: E402
from callbacks.api import (  # noqa: E402
    cancel,
    check_url,
    configure,
    enqueue,
    enqueue_many,
    get_status,
)
from callbacks.batcher.errors import NotDurable, RedisRefused, WrongForm  # noqa: E402
from callbacks.batcher.inspector import Attempt, Status  # noqa: E402
from callbacks.delivery.callback import AICallback  # noqa: E402
from callbacks.model import (  # noqa: E402
    Answer,
    CallbacksError,
    InvalidCallback,
    Outcome,
    QueueFull,
    Reason,
    Receipt,
    SettingsError,
    State,
    Timing,
)
from callbacks.on_commit import enqueue_on_commit  # noqa: E402
from callbacks.request.secrets import SecretResolverError  # noqa: E402
from callbacks.version import __version__  # noqa: E402

if TYPE_CHECKING:
    from callbacks.delivery.adapter import BlockedURL, GuardedAdapter, ResponseTooLarge

__all__ = [
    "AICallback",
    "Answer",
    "Attempt",
    "BlockedURL",
    "CallbacksError",
    "GuardedAdapter",
    "InvalidCallback",
    "NotDurable",
    "Outcome",
    "QueueFull",
    "Reason",
    "Receipt",
    "RedisRefused",
    "ResponseTooLarge",
    "SecretResolverError",
    "SettingsError",
    "State",
    "Status",
    "Timing",
    "WrongForm",
    "__version__",
    "acancel",
    "aenqueue",
    "aenqueue_many",
    "aget_status",
    "cancel",
    "check_and_flush",
    "check_url",
    "cleanup_stuck",
    "configure",
    "enqueue",
    "enqueue_many",
    "enqueue_on_commit",
    "get_status",
    "send_single_callback",
    "trigger_batch_send",
]

_OF_THE_ADAPTER = {"BlockedURL", "GuardedAdapter", "ResponseTooLarge"}


def __getattr__(name: str) -> Any:
    """Import on first use what needs `requests`, which takes longer to import than all the rest."""
    if name not in _OF_THE_ADAPTER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from callbacks.delivery import adapter  # noqa: PLC0415

    return getattr(adapter, name)
