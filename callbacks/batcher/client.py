"""The one place where a Redis client is built.

The broker and the batcher of a process share one client and its pool. A pool that is empty
makes its callers wait instead of raising, RESP2 keeps redis-py's check for unread replies on
a pooled connection, and nothing is repeated behind our back: what may be repeated, and how
often, is said where the verbs are (`scripts.Scripts`).

After a failover the old primary may stay up as a replica and keep its clients. A connection to
it is no use any more, nor are the pool's others: all are made anew, and the new ones go where
the name leads by then. So it is with a server that loads its data, or whose cluster is down.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import redis
from redis import BlockingConnectionPool, Redis
from redis.backoff import NoBackoff
from redis.connection import (
    AbstractConnection,
    Connection,
    DefaultParser,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.retry import Retry

from callbacks.batcher.errors import KINDS, LOST_PRIMARY, ClusterUnsupported, unwrapped

if TYPE_CHECKING:
    from callbacks.settings import Settings

#: A connection that is younger stays: while there is no primary, it is looked for so often.
LOOK_AGAIN_S: Final = 0.25
#: Among the clients of a server.
_NAME: Final = "callbacks"


class _Parser(DefaultParser):  # type: ignore[misc, valid-type]  # one of two, by what is installed
    """Reads replies; what errors mean is in one table."""

    @classmethod
    def parse_error(cls, response: str) -> redis.RedisError:
        """Make an exception of an error reply."""
        text = unwrapped(response)
        kind = KINDS.get(text.partition(" ")[0])
        found: redis.RedisError = kind(text) if kind else super().parse_error(text)
        return found


def _refuse_cluster(told: list[Any]) -> None:
    """Raise `ClusterUnsupported` where this is a cluster node's answer to HELLO.

    There `enqueue` would succeed, and nothing be sent: MOVED is not followed.
    """
    if dict(zip(told[::2], told[1::2], strict=False)).get(b"mode") == b"cluster":
        raise ClusterUnsupported(
            "REDIS_URL leads to a node of a Redis Cluster, which is not supported;"
            " point it at a server with cluster-enabled no"
        )


class _ToPrimary(AbstractConnection):
    """A connection that is made anew when its server is no primary, and refuses a cluster node."""

    #: Set by the pool.
    leave: Callable[[], None]

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._since = 0.0

    def connect(self) -> None:
        """Connect, if it is not connected or is to be made anew."""
        if self.should_reconnect():  # type: ignore[no-untyped-call]
            self.disconnect()  # type: ignore[no-untyped-call]
        super().connect()  # type: ignore[no-untyped-call]

    def on_connect_check_health(self, check_health: bool = True) -> None:
        """Introduce ourselves, and see who is there, in one command.

        CLIENT SETNAME, in Redis 6.2, is denied to a user without `@admin`.
        """
        super().on_connect_check_health(check_health)
        self._since = time.monotonic()
        self.send_command("HELLO", 2, "SETNAME", _NAME, check_health=False)  # type: ignore[no-untyped-call]
        try:
            told = self.read_response()
        except redis.ResponseError:
            return  # what is in between does not know it, or this user must not ask
        _refuse_cluster(told)

    def read_response(self, *args: Any, **options: Any) -> Any:
        """Read one reply; raises an error reply."""
        try:
            return super().read_response(*args, **options)
        except LOST_PRIMARY:
            if time.monotonic() - self._since >= LOOK_AGAIN_S:
                self.leave()
            raise


class _TCP(_ToPrimary, Connection):
    pass


class _TLS(_ToPrimary, SSLConnection):
    pass


class _Unix(_ToPrimary, UnixDomainSocketConnection):
    pass


_CONNECTIONS: Final = {"redis": _TCP, "rediss": _TLS, "unix": _Unix}


class _Pool(BlockingConnectionPool):
    """A pool that leaves a server as a whole."""

    def make_connection(self) -> Any:
        """Make a connection that can have all of them made anew."""
        made: Any = super().make_connection()  # type: ignore[no-untyped-call]
        made.leave = self._leave
        return made

    def _leave(self) -> None:
        """Have each connection made anew: a free one before its next use, the others after this."""
        for connection in tuple(self._connections):
            connection.mark_for_reconnect()


def connect(settings: Settings) -> Redis:
    """Build a client for `settings.redis_url`; opens no connection yet.

    Connecting, each command, and the wait for a free connection end within
    `settings.redis_timeout` seconds.
    """
    url = settings.redis_url
    scheme = url.partition(":")[0]
    options: dict[str, Any] = {
        "connection_class": _CONNECTIONS[scheme],
        "parser_class": _Parser,
        "max_connections": settings.redis_max_connections,
        "timeout": settings.redis_timeout,
        "socket_timeout": settings.redis_timeout,
        "socket_connect_timeout": settings.redis_timeout,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
        "socket_keepalive": True,
    }
    if scheme == "unix":
        del options["socket_keepalive"]
    if scheme == "rediss" and not settings.redis_tls_verify:
        options |= {"ssl_cert_reqs": ssl.CERT_NONE, "ssl_check_hostname": False}
    return Redis(connection_pool=_Pool.from_url(url, **options))
