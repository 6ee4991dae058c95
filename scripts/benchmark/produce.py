"""Puts callbacks into a queue, in one process and one thread, and says how long it took.

Each way is called by its name with a count: `python -m scripts.benchmark.produce bulk 1000`.
"""

from __future__ import annotations

import json
import os
import random
import secrets
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from scripts.benchmark.request import BODY, DATA, headers

URL: Final = os.environ["BENCH_URL"]
#: Ids are new each time: ours refuses one that it knows.
PREFIX: Final = secrets.token_hex(6)
_told: dict[str, Any] = {}


@contextmanager
def _timed() -> Iterator[None]:
    started = time.perf_counter()
    yield
    _told["seconds"] = time.perf_counter() - started


def _item(n: int) -> dict[str, Any]:
    return {"callback_url": URL, "data": DATA, "event": "image.completed", "id": f"{PREFIX}-{n}"}


def single(count: int) -> None:
    """Ours, one call each."""
    from callbacks import enqueue

    enqueue(**_item(0))  # the first call loads and looks up what later ones know; 0 is told twice
    with _timed():
        for n in range(count):
            enqueue(**_item(n))


def bulk(count: int) -> None:
    """Ours, all in one call."""
    from callbacks import enqueue_many

    enqueue_many([_item(0)])
    with _timed():
        enqueue_many(_item(n) for n in range(count))


def spread(count: int) -> None:
    """Ours, one now and then, with the moment of each."""
    from callbacks import enqueue

    moments = []
    for n in range(count):
        time.sleep(0.75 + random.random() * 0.3)
        moments.append(time.monotonic())
        enqueue(**_item(n))
    _told["moments"] = moments


def post(count: int) -> None:
    """No queue: a bare POST now and then, with the moment of each."""
    import requests

    moments = []
    with requests.Session() as session:
        for n in range(count):
            time.sleep(0.05 + random.random() * 0.1)
            moments.append(time.monotonic())
            session.post(URL, data=BODY, headers=headers(f"{PREFIX}-{n}"), timeout=(3, 7))
    _told["moments"] = moments


def celery(count: int) -> None:
    """Celery, one task a callback; one connection and one producer are kept."""
    from scripts.benchmark.celery_app import app, send

    body = BODY.decode()
    with app.producer_pool.acquire(block=True) as producer, _timed():
        for n in range(count):
            send.apply_async((f"{PREFIX}-{n}", body), producer=producer)


def celery_by_hand(count: int) -> None:
    """A list of our own, pipelined, and one trigger."""
    from scripts.benchmark.celery_app import QUEUE, books, trigger

    with _timed():
        for start in range(0, count, 500):
            some = range(start, min(start + 500, count))
            books.rpush(QUEUE, *(f"{PREFIX}-{n}\n".encode() + BODY for n in some))
        trigger.apply_async()


WAYS: Final[dict[str, Callable[[int], None]]] = {
    way.__name__: way for way in (single, bulk, spread, post, celery, celery_by_hand)
}

if __name__ == "__main__":
    WAYS[sys.argv[1]](int(sys.argv[2]))
    print(json.dumps(_told))
