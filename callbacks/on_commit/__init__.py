"""`enqueue_on_commit`: enqueues a callback after a database transaction of the application's.

Knows Django's and SQLAlchemy's objects, and imports neither: an application that passes one has.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from callbacks import api
from callbacks.on_commit import late
from callbacks.runtime import runtime
from callbacks.when import Moment

if TYPE_CHECKING:
    from callbacks.on_commit.sqlalchemy import Transactions


def enqueue_on_commit(
    where: Any,
    callback_url: str,
    data: Any,
    *,
    event: str = "callback",
    id: str | None = None,
    environment: str | None = None,
    headers: Mapping[str, str] | None = None,
    expires_in: float | Moment | None = None,
    delay: float | Moment | None = None,
    lane: str | None = None,
) -> str:
    """Enqueue one callback once the current transaction is committed; returns its id.

    `where`: Django's `connection` (or `connections[alias]`, or anything with `on_commit`), or a
    SQLAlchemy `Session`, `Connection`, `AsyncSession` or `AsyncConnection`. After a rollback, also
    to a savepoint, nothing is enqueued. The other parameters are those of `enqueue`; `delay` and
    `expires_in` count from the commit.

    The input is checked at once: raises `InvalidCallback`, `SettingsError`, and TypeError for a
    `where` of another kind. If the callback cannot be enqueued after the commit, this is logged
    (`not_enqueued`) and not raised, because the commit cannot be undone. For callbacks that must
    not be lost then, or if the process dies in between, there is `callbacks.outbox`.
    """
    transactions = _of_sqlalchemy(where)
    if transactions is None and not callable(getattr(where, "on_commit", None)):
        raise TypeError(
            f"where: is a {type(where).__name__}; expected Django's connection, or SQLAlchemy's"
            " Session, Connection, AsyncSession or AsyncConnection"
        )
    item, callback = api.freeze(
        runtime(),
        callback_url=callback_url,
        data=data,
        event=event,
        id=id,
        environment=environment,
        headers=headers,
        expires_in=expires_in,
        delay=delay,
        lane=lane,
        now=datetime.now(UTC),
    )
    if not (transactions and transactions.are_async and callback.settings.secret_resolver):
        api.check_signable(callback)  # a resolver could hold up the event loop; workers ask it
    if transactions:
        transactions.add(item)
    else:
        where.on_commit(partial(late.enqueue, [item]))
    return item.id


def _of_sqlalchemy(where: object) -> Transactions | None:
    """The transactions of one of SQLAlchemy's objects; None if it is none."""
    if "sqlalchemy" not in sys.modules:
        return None
    from callbacks.on_commit.sqlalchemy import transactions_of  # noqa: PLC0415 - of an extra

    return transactions_of(where)
