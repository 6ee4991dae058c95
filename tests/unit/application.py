"""A small application that uses every public name, for mypy (see pyproject.toml); never run.

`test_public_names.py` sees to it that no name is missing.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, assert_type
from uuid import UUID, uuid4

import requests
import sqlalchemy
from dramatiq import Actor
from sqlalchemy.ext.asyncio import AsyncSession

import callbacks
from callbacks import admin, outbox, testing


@dataclass
class Job:
    """What an application knows when a job has ended."""

    id: UUID
    ended: datetime
    day: date
    price: Decimal
    state: callbacks.State


URL = "https://customer.example/hooks"


callbacks.configure(max_retries=5, environment_secrets={"staging": "whsec_..."})


def register(url: str) -> str:
    try:
        return assert_type(callbacks.check_url(url), str)
    except callbacks.InvalidCallback as error:
        raise SystemExit(f"{error.field} {error.problem}") from error


def end_of_job(job: Job) -> str | None:
    try:
        receipt = callbacks.enqueue(
            URL,
            job,
            event="image.completed",
            id=str(job.id),
            environment="staging",
            headers={"X-Tenant": "7"},
            expires_in=timedelta(hours=2),
            delay="10m",
            lane="customer-7",
        )
    except callbacks.SettingsError:
        raise
    except callbacks.NotDurable as error:
        return error.callback_id
    except (callbacks.WrongForm, callbacks.RedisRefused, callbacks.QueueFull) as error:
        assert_type(error.receipts, tuple[callbacks.Receipt, ...])
        return error.callback_id
    except callbacks.CallbacksError:
        return None
    assert_type(receipt, callbacks.Receipt)
    assert_type((receipt.accepted, receipt.conflict), tuple[bool, bool])
    receipts = callbacks.enqueue_many([{"callback_url": URL, "data": n} for n in range(3)])
    assert_type(receipts, list[callbacks.Receipt])
    return assert_type(receipt.id, str)


def look(id: str) -> callbacks.Attempt | None:
    status = callbacks.get_status(id)
    assert_type(status, callbacks.Status | None)
    if status is None or not callbacks.cancel(id):
        return None
    assert_type(status.state, callbacks.State)
    assert_type([attempt.timing for attempt in status.history], list[callbacks.Timing | None])
    assert_type(status.created_at, float | None)
    assert_type((status.event, status.environment), tuple[str | None, str | None])
    assert_type(status.callback_url, str)
    assert_type(status.next_attempt_at, float | None)
    last = status.history[-1]
    assert_type((last.at, last.duration), tuple[float, float])
    assert_type((last.status, last.reason, last.said), tuple[int | None, str | None, str])
    assert_type(last.timing, callbacks.Timing | None)
    return last


def send_now() -> callbacks.Answer | None:
    callback = callbacks.AICallback(URL, {"n": 1}, event="ping")
    try:
        secrets = callback.secrets
    except callbacks.SecretResolverError:
        return None
    assert_type(secrets, tuple[str, ...])
    answer = callback.send()
    assert_type(answer.fault, callbacks.Reason | None)
    assert_type(answer.duration, float)
    return answer


def fetch(session: requests.Session) -> int:
    session.mount("https://", callbacks.GuardedAdapter())
    try:
        return session.get(URL, timeout=5).status_code
    except (callbacks.BlockedURL, callbacks.ResponseTooLarge):
        return 0


def actors() -> list[Actor[..., Any]]:
    return [
        callbacks.check_and_flush,
        callbacks.cleanup_stuck,
        callbacks.send_single_callback,
        callbacks.trigger_batch_send,
    ]


def is_sent(outcome: callbacks.Outcome) -> bool:
    return outcome is callbacks.Outcome.SENT


def administer(progress: Callable[[int, int | None], None]) -> None:
    page = admin.list(callbacks.State.DEAD, reason=callbacks.Reason.TIMEOUT, since="2h", limit=9)
    assert_type(page, admin.Page[callbacks.Status])
    assert_type(page.cursor, str | None)
    for status in page:
        assert_type(status, callbacks.Status)
    for status in admin.iterate("dead", since=datetime.now(UTC)):
        assert_type(status.reason, str | None)
    replayed = admin.replay(destination=URL, progress=progress, why="fixed", who="me")
    assert_type(replayed, admin.DeadLetters)
    assert_type(admin.purge(all=True, limit=5, dry_run=True).not_dead, tuple[str, ...])
    assert_type(admin.cancel("c-1"), admin.Cancellation)
    assert_type(admin.pause(URL), admin.Pause)
    assert_type(admin.resume(), admin.Resumption)
    assert_type(admin.flush(), admin.Flush)
    assert_type(admin.cleanup(), admin.Cleanup)
    audit = admin.audit(repair=True, tell=print)
    assert_type(audit, admin.Audit)
    assert_type(audit.problems, tuple[admin.Problem, ...])


def overview() -> Mapping[str, Any]:
    status = admin.status()
    assert_type(status, admin.SystemStatus)
    assert_type(status.workers, tuple[admin.WorkerProcess, ...])
    assert_type(status.trouble, tuple[admin.TroubledDestination, ...])
    assert_type(status.last_hour, admin.LastHour | None)
    if status.last_hour is not None:
        assert_type(status.last_hour.delivery_delay, admin.DeliveryDelay | None)
    destinations = admin.destinations(trouble=True, sort=next(iter(admin.SORTS)))
    assert_type(destinations, admin.Page[admin.Destination])
    assert_type(admin.destination(URL), admin.Destination | None)
    for one in admin.iterate_destinations():
        assert_type(one.interval, float | None)
    for act in admin.log(limit=5):
        assert_type(act, admin.Act)
        assert_type(act.at, float)
    story = admin.show("c-1")
    assert_type(story, admin.Story | None)
    document: Mapping[str, Any] = admin.document(status)
    return document


def main() -> None:
    job = Job(uuid4(), datetime.now(UTC), date.today(), Decimal(1), callbacks.State.SENT)  # noqa: DTZ011
    print(callbacks.__version__, end_of_job(job))  # noqa: T201


async def end_of_job_in_a_loop(job: Job) -> str | None:
    receipt = await callbacks.aenqueue(URL, job, delay="10m", expires_in=timedelta(hours=2))
    assert_type(receipt, callbacks.Receipt)
    receipts = await callbacks.aenqueue_many([{"callback_url": URL, "data": n} for n in range(3)])
    assert_type(receipts, list[callbacks.Receipt])
    status = await callbacks.aget_status(receipt.id)
    assert_type(status, callbacks.Status | None)
    return None if await callbacks.acancel(receipt.id) else receipt.id


def end_of_job_on_commit(connection: object, job: Job) -> str:
    return assert_type(callbacks.enqueue_on_commit(connection, URL, job, expires_in=60), str)


METADATA = sqlalchemy.MetaData()
OUTBOX = assert_type(outbox.table(METADATA), sqlalchemy.Table)


def end_of_job_in_an_outbox(connection: sqlite3.Connection, job: Job) -> str:
    with connection:
        return assert_type(outbox.add(connection, URL, job, delay="10m", into=OUTBOX.name), str)


async def end_of_job_in_an_outbox_in_a_loop(session: AsyncSession, job: Job) -> str:
    async with session.begin():
        return assert_type(await outbox.aadd(session, URL, job, lane="customer-7"), str)


def test_what_is_enqueued(callbacks_outbox: testing.CallbacksOutbox) -> None:
    enqueued = callbacks_outbox[0]
    assert_type(enqueued, testing.Enqueued)
    assert_type((enqueued.url, enqueued.event), tuple[str, str | None])
    assert_type(callbacks_outbox[1:], list[testing.Enqueued])
    callbacks_outbox.clear()


def test_what_arrives(
    callbacks_app: testing.CallbacksApp, callbacks_receiver: testing.CallbacksReceiver
) -> None:
    callbacks_app.configure(max_retries=1)
    callbacks_receiver.answer_next(503, testing.Response(429, (("Retry-After", "60"),)))
    assert_type(testing.deliver_all(within=60), list[testing.Attempted])
    assert_type(callbacks_app.clock, testing.Clock)
    callbacks_app.clock.advance(86_400)
    assert_type(callbacks_receiver.requests, Sequence[testing.Received])
    delivered = testing.assert_delivered(URL, event="image.completed", data={"n": 1})
    assert_type(delivered, testing.Attempted)


async def test_what_arrives_in_a_loop(callbacks_server: testing.EmbeddedServer) -> None:
    with testing.CallbacksApp(callbacks_server, secret="whsec_...") as app:
        assert_type(await testing.adeliver_all(), list[testing.Attempted])
        assert_type(app.attempts, list[testing.Attempted])
