"""What SQLAlchemy's sessions and connections do after a commit.

For each there is a list of what its current transaction enqueues, with a mark where a savepoint
began: a rollback to it drops what came after the mark.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from weakref import WeakKeyDictionary, ref

import sqlalchemy
from sqlalchemy import Connection, event
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, async_scoped_session
from sqlalchemy.orm import Session, SessionTransaction, scoped_session
from sqlalchemy.util import await_only

from callbacks.model import Item
from callbacks.on_commit import late

_T = TypeVar("_T", Session, Connection)


@dataclass(eq=False, frozen=True, slots=True)
class _Mark:
    """Where a savepoint began: a connection's by its name, a session's by its transaction."""

    savepoint: object


class _Waiting:
    """What the current transaction enqueues if it is committed."""

    def __init__(self) -> None:
        self._entries: list[Item | _Mark] = []

    def add(self, items: Sequence[Item]) -> None:
        """Enqueue these, too."""
        self._entries += items

    def mark(self, savepoint: object) -> None:
        """Note that a savepoint begins here."""
        self._entries.append(_Mark(savepoint))

    def release(self, savepoint: object) -> None:
        """Leave what came after a savepoint to the enclosing transaction."""
        if (place := self._place(savepoint)) is not None:
            del self._entries[place]

    def roll_back(self, savepoint: object = None) -> None:
        """Drop what came after a savepoint; all if it began before anything was added."""
        del self._entries[self._place(savepoint) or 0 :]

    def take(self) -> list[Item]:
        """Return what is to be enqueued now."""
        entries, self._entries = self._entries, []
        return [entry for entry in entries if isinstance(entry, Item)]

    def _place(self, savepoint: object) -> int | None:
        for place, entry in enumerate(self._entries):
            if isinstance(entry, _Mark) and entry.savepoint == savepoint:
                return place
        return None


class _SessionTransactions:
    """The transactions of one session, which may be that of an `AsyncSession`."""

    def __init__(self, session: Session) -> None:
        self.are_async = False
        self._session = ref(session)
        self._waiting = _Waiting()
        self._committed: set[SessionTransaction] = set()
        event.listen(session, "after_transaction_create", self._created)
        event.listen(session, "after_begin", self._begun)
        event.listen(session, "after_commit", self._commits)
        event.listen(session, "after_transaction_end", self._ended)

    def add(self, item: Item) -> None:
        """Enqueue a callback when the current transaction, which begins now if need be, commits."""
        session = self._session()
        if session and not session.in_transaction():
            session.begin()  # else a rollback would not be noticed
        self._waiting.add([item])

    def _created(self, _session: Session, transaction: SessionTransaction) -> None:
        if transaction.nested:
            self._waiting.mark(transaction)

    def _begun(
        self, _session: Session, _transaction: SessionTransaction, connection: Connection
    ) -> None:
        self.are_async = connection.dialect.is_async

    def _commits(self, session: Session) -> None:
        """It is a savepoint that is released, or the whole transaction."""
        transaction = session.get_nested_transaction() or session.get_transaction()
        if transaction:
            self._committed.add(transaction)

    def _ended(self, session: Session, transaction: SessionTransaction) -> None:
        """The transaction is over, and its connections are free again."""
        is_committed = transaction in self._committed
        self._committed.discard(transaction)
        if transaction.nested:
            end = self._waiting.release if is_committed else self._waiting.roll_back
            end(transaction)
        elif transaction.parent is None:
            items = self._waiting.take()
            if is_committed:
                self._enqueue(session, items)

    def _enqueue(self, session: Session, items: Sequence[Item]) -> None:
        """Enqueue, unless all this was within a transaction of a connection that goes on."""
        if isinstance(session.bind, Connection) and session.bind.in_transaction():
            _connection_transactions(session.bind).take_over(items)
        else:
            _enqueue(items, is_async=self.are_async)


class _ConnectionTransactions:
    """The transactions of one connection, which may be that of an `AsyncConnection`.

    SQLAlchemy calls nobody after the commit of a connection, and tells nobody the name of a
    savepoint, so three methods of this one connection get a few more lines.
    """

    def __init__(self, connection: Connection) -> None:
        self.are_async = connection.dialect.is_async
        self._connection = ref(connection)
        self._waiting = _Waiting()
        _extend(connection, "_commit_impl", self._commit)
        _extend(connection, "_commit_twophase_impl", self._commit)
        _extend(connection, "_savepoint_impl", self._savepoint)
        for name in ("rollback", "rollback_twophase"):
            event.listen(connection, name, lambda *_: self._waiting.roll_back())
        event.listen(
            connection, "rollback_savepoint", lambda _c, name, _x: self._waiting.roll_back(name)
        )
        event.listen(
            connection, "release_savepoint", lambda _c, name, _x: self._waiting.release(name)
        )

    def add(self, item: Item) -> None:
        """Enqueue a callback when the current transaction, which begins now if need be, commits."""
        connection = self._connection()
        if connection and not connection.in_transaction():
            connection.begin()  # else a rollback would not be noticed
        self._waiting.add([item])

    def take_over(self, items: Sequence[Item]) -> None:
        """Enqueue these, of a session within this transaction, when it commits."""
        self._waiting.add(items)

    def _commit(self, commit: Callable[[], None]) -> None:
        items = self._waiting.take()
        commit()
        _enqueue(items, is_async=self.are_async)

    def _savepoint(self, savepoint: Callable[[], str]) -> str:
        name = savepoint()
        self._waiting.mark(name)
        return name


Transactions = _SessionTransactions | _ConnectionTransactions

_sessions: WeakKeyDictionary[Session, _SessionTransactions] = WeakKeyDictionary()
_connections: WeakKeyDictionary[Connection, _ConnectionTransactions] = WeakKeyDictionary()


def transactions_of(where: object) -> Transactions | None:
    """Return those of one of SQLAlchemy's objects; None if it is none."""
    if isinstance(where, scoped_session | async_scoped_session):
        where = where()
    if isinstance(where, AsyncSession):
        found = _session_transactions(where.sync_session)
        found.are_async = True
        return found
    if isinstance(where, AsyncConnection):
        where = where.sync_connection
    if isinstance(where, Session):
        return _session_transactions(where)
    if isinstance(where, Connection):
        return _connection_transactions(where)
    return None


def _session_transactions(session: Session) -> _SessionTransactions:
    if session not in _sessions:
        _sessions[session] = _SessionTransactions(session)
    return _sessions[session]


def _connection_transactions(connection: Connection) -> _ConnectionTransactions:
    if connection not in _connections:
        _connections[connection] = _ConnectionTransactions(connection)
    return _connections[connection]


def _extend(connection: Connection, name: str, around: Callable[[Callable[[], Any]], Any]) -> None:
    """Have one connection call `around` with what its method did before."""
    method = getattr(type(connection), name, None)
    if method is None:
        raise RuntimeError(
            f"SQLAlchemy {sqlalchemy.__version__} has no Connection.{name}; use a Session, or"
            " a release between 2.0 and 2.1"
        )
    this = ref(connection)  # a method in its own attribute would keep it alive
    setattr(connection, name, lambda *given: around(lambda: method(this(), *given)))


def _enqueue(items: Sequence[Item], *, is_async: bool) -> None:
    if not items:
        return
    if is_async:
        await_only(late.aenqueue(items))
    else:
        late.enqueue(items)
