"""The four actors, which connect Dramatiq's messages with the duties."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import dramatiq

from callbacks.batcher.errors import AWAY
from callbacks.batcher.store import Batcher
from callbacks.delivery.callback import shared_transport
from callbacks.log import log
from callbacks.runtime import ACTOR_RETRIES, broker, places, runtime
from callbacks.worker.attempt import send_once
from callbacks.worker.consumer import QUEUE
from callbacks.worker.duties import dispatch_once, flush_once, recover_once
from callbacks.worker.scheduler import Cron


@contextmanager
def _unless_away() -> Iterator[None]:
    """End normally if Redis is unreachable: the ticker will send the message again.

    If it failed, each of a hundred messages would log a traceback, and its retry would need
    the unreachable Redis.
    """
    try:
        yield
    except AWAY as error:
        log.debug("wake_lost", error=str(error))


def _chosen(shard: int | None) -> tuple[Batcher, ...]:
    """The shard that a message names, or else those with something to do."""
    try:
        return runtime().batcher.chosen(shard)
    except AWAY as error:
        log.debug("wake_lost", error=str(error))
        return ()


@dramatiq.actor(broker=broker, queue_name=QUEUE, priority=0, max_retries=0)
def trigger_batch_send(shard: int | None = None) -> None:
    """Claim the next batch and send its messages, each with the delay of its slot."""
    parts = runtime()
    for one in _chosen(shard):
        with _unless_away():
            dispatch_once(one, parts.messages.of(one.shard))


@dramatiq.actor(broker=broker, queue_name=QUEUE, priority=10, max_retries=ACTOR_RETRIES)
def send_single_callback(callback_id: str, token: str) -> None:
    """Send one claimed callback; raises `dramatiq.Retry` if it has to be retried."""
    parts = runtime()
    transport = shared_transport(parts.settings)
    with _unless_away():
        one = parts.batcher.of_token(token)
        messages = parts.messages.of(one.shard)
        sent = send_once(one, messages, transport, callback_id, token, places=places)
        if sent.retry_ms is not None:
            raise dramatiq.Retry("granted by the batcher", delay=sent.retry_ms)


@dramatiq.actor(
    broker=broker, queue_name=QUEUE, priority=0, max_retries=0, periodic=Cron("* * * * *")
)
def check_and_flush(shard: int | None = None) -> None:
    """Trigger a batch if one is due, in each shard that has callbacks or in one."""
    parts = runtime()
    for one in _chosen(shard):
        with _unless_away():
            flush_once(one, parts.messages.of(one.shard))


@dramatiq.actor(
    broker=broker, queue_name=QUEUE, priority=0, max_retries=0, periodic=Cron("* * * * *")
)
def cleanup_stuck() -> None:
    """Take back callbacks that are past their lease."""
    for one in _chosen(None):
        with _unless_away():
            recover_once(one, chance=random.random())  # noqa: S311 - spreads load
