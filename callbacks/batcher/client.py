"""The one place where a Redis client is built.

The broker and the batcher of a process share one client and its pool. When all connections are
in use, callers wait instead of getting an error. RESP2 keeps redis-py's check for unread replies
on a pooled connection. redis-py retries nothing: `scripts.Scripts` decides what is repeated, and
how often.

After a failover the old primary may stay up as a replica and keep its clients. No connection to
it is of use then, so the whole pool reconnects to wherever the name leads by then. The same goes
for a server that is loading its data, or whose cluster is down.
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

#: Younger connections are kept: while there is no primary, this is how often it is looked for.
LOOK_AGAIN_S: Final = 0.25
#: The name shown by CLIENT LIST.
_NAME: Final = "callbacks"


class _Parser(DefaultParser):  # type: ignore[misc, valid-type]  # a variable in redis-py
    """Reads replies, and maps errors by `errors.KINDS`."""

    @classmethod
    def parse_error(cls, response: str) -> redis.RedisError:
        """Turn an error reply into an exception."""
        text = unwrapped(response)
        kind = KINDS.get(text.partition(" ")[0])
        found: redis.RedisError = kind(text) if kind else super().parse_error(text)
        return found


def _refuse_cluster(told: list[Any]) -> None:
    """Raise `ClusterUnsupported` if this is a cluster node's answer to HELLO.

    Redirects (MOVED) are not followed: `enqueue` would succeed, but nothing would be sent.
    """
    if dict(zip(told[::2], told[1::2], strict=False)).get(b"mode") == b"cluster":
        raise ClusterUnsupported(
            "REDIS_URL leads to a node of a Redis Cluster, which is not supported;"
            " point it at a server with cluster-enabled no"
        )


class _ToPrimary(AbstractConnection):
    """A connection that is reopened when its server is not a primary, and refuses cluster nodes."""

    #: Makes the whole pool reconnect; set by the pool.
    leave: Callable[[], None]

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._since = 0.0

    def connect(self) -> None:
        """Connect, unless it is connected and need not be reopened."""
        if self.should_reconnect():  # type: ignore[no-untyped-call]
            self.disconnect()  # type: ignore[no-untyped-call]
        super().connect()  # type: ignore[no-untyped-call]

    def on_connect_check_health(self, check_health: bool = True) -> None:
        """Set our name and read the server's mode with one command.

        Redis 6.2 denies CLIENT SETNAME to a user without `@admin`.
        """
        super().on_connect_check_health(check_health)
        self._since = time.monotonic()
        self.send_command("HELLO", 2, "SETNAME", _NAME, check_health=False)  # type: ignore[no-untyped-call]
        try:
            told = self.read_response()
        except redis.ResponseError:
            return  # a proxy does not know HELLO, or this user may not call it
        _refuse_cluster(told)

    def read_response(self, *args: Any, **options: Any) -> Any:
        """Read one reply; raises if it is an error."""
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
    """A pool whose connections are all reopened if one of them has lost its primary."""

    def make_connection(self) -> Any:
        """Make a connection that can make all of them reconnect."""
        made: Any = super().make_connection()  # type: ignore[no-untyped-call]
        made.leave = self._leave
        return made

    def _leave(self) -> None:
        """Have each connection reopened before its next use."""
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
