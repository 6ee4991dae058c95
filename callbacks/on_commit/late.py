"""Enqueues what a transaction asked for, once it is committed.

It cannot be undone then, so whatever prevents an enqueue is logged and not raised.
"""

from __future__ import annotations

from collections.abc import Sequence

import redis

from callbacks import aio, api
from callbacks.log import log
from callbacks.model import CallbacksError, Item, Stored
from callbacks.runtime import runtime


def enqueue(items: Sequence[Item]) -> None:
    """Enqueue callbacks; what is wrong with one is no error of the others."""
    try:
        _log_failures(items, api.store(runtime(), items, step_size=1))
    except (redis.RedisError, CallbacksError) as error:
        _log_failures(items, [error] * len(items))


async def aenqueue(items: Sequence[Item]) -> None:
    """The same in an event loop; goes on if the task is cancelled meanwhile."""
    try:
        _log_failures(items, await aio.store(items))
    except (redis.RedisError, CallbacksError) as error:
        _log_failures(items, [error] * len(items))


def _log_failures(items: Sequence[Item], results: Sequence[object]) -> None:
    for item, result in zip(items, results, strict=True):
        error = result
        if isinstance(result, Stored):
            error = api.CONFLICT if result.conflict else None
        if error:
            log.error("not_enqueued", id=item.id, destination=item.destination, error=str(error))
