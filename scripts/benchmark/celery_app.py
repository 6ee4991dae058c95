"""The same job built by hand on Celery, in two ways.

`send` alone: each callback is a task that waits in Celery's own list in Redis. That is the least
that does the job, and so the fastest.

`trigger` with `send_claimed`, what one builds to get batches: a list of waiting callbacks, and a
hash of claimed ones. A trigger takes a lock, claims a batch, makes a task for each callback, and
triggers itself again while more are waiting; a task that has sent removes the claim and counts.

Tuned for throughput with the same promise as ours, at least once (`acks_late`): no results, no
events, no rate limits, and a large prefetch, which the manual advises for many short tasks.
"""

from __future__ import annotations

import os
from typing import Any, Final

import redis
import requests
from celery import Celery
from requests.adapters import HTTPAdapter

from scripts.benchmark.request import headers

URL: Final = os.environ["BENCH_URL"]
IN_FLIGHT: Final = int(os.environ.get("BENCH_IN_FLIGHT", "1"))
BATCH: Final = 500

QUEUE: Final = "hand:queue"
PROCESSING: Final = "hand:processing"
LOCK: Final = "hand:lock"
SENT: Final = "hand:sent"

app = Celery("benchmark", broker=os.environ["REDIS_URL"])
app.conf.update(
    task_ignore_result=True,
    task_acks_late=True,
    task_serializer="json",
    accept_content=["json"],
    worker_prefetch_multiplier=int(os.environ.get("BENCH_PREFETCH", "4")),
    worker_disable_rate_limits=True,
    worker_send_task_events=False,
    task_send_sent_event=False,
    broker_connection_retry_on_startup=True,
)
books = redis.Redis.from_url(os.environ["REDIS_URL"], max_connections=64)
# One per process, with a connection for each request in flight: a session per greenlet would
# live, with its connection, for one task only.
session = requests.Session()
session.mount("http://", HTTPAdapter(pool_connections=1, pool_maxsize=IN_FLIGHT))


def _post(id: str, body: str) -> None:
    answer = session.post(
        URL, data=body.encode(), headers=headers(id), timeout=(3, 7), allow_redirects=False
    )
    answer.raise_for_status()


@app.task(bind=True, max_retries=2)
def send(self: Any, id: str, body: str) -> None:
    """Send one callback."""
    try:
        _post(id, body)
    except requests.RequestException as error:
        raise self.retry(exc=error, countdown=30 * (self.request.retries + 1)) from error


@app.task(bind=True, max_retries=2)
def send_claimed(self: Any, id: str, body: str) -> None:
    """Send one callback that `trigger` claimed, remove its claim and count it."""
    try:
        _post(id, body)
    except requests.RequestException as error:
        raise self.retry(exc=error, countdown=30 * (self.request.retries + 1)) from error
    with books.pipeline(transaction=False) as pipe:
        pipe.hdel(PROCESSING, id)
        pipe.incr(SENT)
        pipe.execute()


@app.task
def trigger() -> None:
    """Claim one batch, make a task for each callback, and trigger again while more are waiting."""
    if not books.set(LOCK, "1", nx=True, ex=10):
        return
    try:
        batch: Any = books.lpop(QUEUE, BATCH) or []
        claimed = dict(item.split(b"\n", 1) for item in batch)
        if claimed:
            books.hset(PROCESSING, mapping=claimed)
        with app.producer_pool.acquire(block=True) as producer:
            for id, body in claimed.items():
                send_claimed.apply_async((id.decode(), body.decode()), producer=producer)
    finally:
        books.delete(LOCK)
    if claimed:
        trigger.apply_async()
