"""The four actors: glue between Dramatiq's messages and the duties in `work`."""

from __future__ import annotations

import random

import dramatiq
from periodiq import cron

from callbacks.broker import QUEUE
from callbacks.delivery import shared_transport
from callbacks.runtime import ACTOR_RETRIES, broker, runtime
from callbacks.work import dispatch_once, flush_once, recover_once, send_once


@dramatiq.actor(broker=broker, queue_name=QUEUE, priority=0, max_retries=0)
def trigger_batch_send() -> None:
    """Claim the next batch and send its messages, each with the delay of its slot."""
    parts = runtime()
    dispatch_once(parts.batcher, parts.wakes)


@dramatiq.actor(broker=broker, queue_name=QUEUE, priority=10, max_retries=ACTOR_RETRIES)
def send_single_callback(callback_id: str, token: str) -> None:
    """Send one claimed callback; raises `dramatiq.Retry` where it is to be tried again."""
    parts = runtime()
    transport = shared_transport(parts.settings)
    sent = send_once(parts.batcher, parts.wakes, transport, callback_id, token)
    if sent.retry_ms is not None:
        raise dramatiq.Retry("granted by the batcher", delay=sent.retry_ms)


@dramatiq.actor(
    broker=broker, queue_name=QUEUE, priority=0, max_retries=0, periodic=cron("* * * * *")
)
def check_and_flush() -> None:
    """Trigger a batch if one is due."""
    parts = runtime()
    flush_once(parts.batcher, parts.wakes)


@dramatiq.actor(
    broker=broker, queue_name=QUEUE, priority=0, max_retries=0, periodic=cron("* * * * *")
)
def cleanup_stuck() -> None:
    """Take back callbacks that are past their lease."""
    recover_once(runtime().batcher, chance=random.random())  # noqa: S311 - spreads load
