"""The one place where Redis clients are built.

The broker and the batcher of a process share one client and its pool; on a cluster, one pool for
each primary. When all connections are in use, callers wait instead of getting an error. RESP2
keeps redis-py's check for unread replies on a pooled connection. redis-py retries nothing:
`scripts.Scripts` decides what is repeated, and how often.

After a failover the old primary may stay up as a replica and keep its clients. No connection to
it is of use then, so the whole pool reconnects to wherever the name leads by then, or Sentinel
says. The same goes for a server that is loading its data. On a cluster an error of any kind has
the nodes asked where the slot is now.
"""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import redis
from redis import BlockingConnectionPool, Redis
from redis.backoff import NoBackoff
from redis.client import Pipeline
from redis.connection import (
    AbstractConnection,
    Connection,
    ConnectionPoolInterface,
    DefaultParser,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.retry import Retry

from callbacks.batcher.errors import (
    KINDS,
    LOST_PRIMARY,
    NotPrimary,
    WrongForm,
    unwrapped,
)
from callbacks.batcher.keys import Keys
from callbacks.batcher.topology import LOOK_AGAIN_S, Address, Cluster, Sentinels, until_found
from callbacks.forks import renew_after_fork
from callbacks.redis_url import Form, RedisPlace

if TYPE_CHECKING:
    from callbacks.settings import Settings

#: The name shown by CLIENT LIST.
_NAME: Final = "callbacks"
#: On a cluster the primaries share so many connections of a process, or as many as are set; each
#: has one at least.
_MOST_IN_ALL: Final = 12
#: How often the Sentinels are asked although all is well.
LOOK_S: Final = 1.0
#: After one of these, the nodes of a cluster are asked again.
_LOST: Final = (*LOST_PRIMARY, redis.ConnectionError, redis.TimeoutError)
#: What a server of another kind than its URL says is told in HELLO, and what to write instead.
_RIGHT_URLS: Final = {
    "standalone": "redis://host:port/db",
    "cluster": "redis+cluster://host:port",
    "sentinel": "redis+sentinel://host:port/MASTER/DB",
}
_KINDS_OF_SERVERS: Final = {
    "standalone": "a Redis without cluster mode",
    "cluster": "a node of a Redis Cluster",
    "sentinel": "a Sentinel",
}


class _Parser(DefaultParser):  # type: ignore[misc, valid-type]  # a variable in redis-py
    """Reads replies, and maps errors by `errors.KINDS`."""

    @classmethod
    def parse_error(cls, response: str) -> redis.RedisError:
        """Turn an error reply into an exception."""
        text = unwrapped(response)
        kind = KINDS.get(text.partition(" ")[0])
        found: redis.RedisError = kind(text) if kind else super().parse_error(text)
        return found


class _ToPrimary(AbstractConnection):
    """A connection of a `_Pool`: asks it where to connect to, and tells it of errors."""

    #: Set by the pool, once it has made this connection.
    home: _Pool

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.since = 0.0

    def connect(self) -> None:
        """Connect, unless it is connected and need not be reopened."""
        if self.should_reconnect():  # type: ignore[no-untyped-call]
            self.disconnect()  # type: ignore[no-untyped-call]
        try:
            super().connect()  # type: ignore[no-untyped-call]
        except _LOST as error:
            self.home.lost(self, error)
            raise

    def _connect(self) -> Any:
        address = self.home.address()
        if address is not None:
            self.host, self.port = address
            self.reset_should_reconnect()  # type: ignore[no-untyped-call]
        return super()._connect()  # type: ignore[no-untyped-call, safe-super]

    def on_connect_check_health(self, check_health: bool = True) -> None:
        """Set our name and read the server's mode and role with one command.

        Redis 6.2 denies CLIENT SETNAME to a user without `@admin`.
        """
        super().on_connect_check_health(check_health)
        self.since = time.monotonic()
        self.send_command("HELLO", 2, "SETNAME", _NAME, check_health=False)  # type: ignore[no-untyped-call]
        try:
            told = self.read_response()
        except NotPrimary:
            raise
        except redis.ResponseError:
            return  # a proxy does not know HELLO, or this user may not call it
        words = [word.decode() if isinstance(word, bytes) else word for word in told]
        self.home.check(dict(zip(words[::2], words[1::2], strict=False)))

    def send_packed_command(self, *args: Any, **options: Any) -> None:
        """Send a command; raises if the connection breaks."""
        try:
            super().send_packed_command(*args, **options)  # type: ignore[no-untyped-call]
        except _LOST as error:
            self.home.lost(self, error)
            raise

    def read_response(self, *args: Any, **options: Any) -> Any:
        """Read one reply; raises if it is an error."""
        try:
            return super().read_response(*args, **options)
        except _LOST as error:
            self.home.lost(self, error)
            raise


class _TCP(_ToPrimary, Connection):
    pass


class _TLS(_ToPrimary, SSLConnection):
    pass


class _Unix(_ToPrimary, UnixDomainSocketConnection):
    pass


_CONNECTIONS: Final = {"redis": _TCP, "rediss": _TLS, "unix": _Unix}


class _Pool(BlockingConnectionPool):
    """The connections to one server; all are reopened if one of them has lost its primary."""

    #: What HELLO must say of a server.
    mode = "standalone"

    def make_connection(self) -> Any:
        """Make a connection that belongs to this pool."""
        made: Any = super().make_connection()  # type: ignore[no-untyped-call]
        made.home = self
        return made

    def address(self) -> Address | None:
        """Where to connect to now; None: where the URL says."""
        return None

    def check(self, told: Mapping[str, Any]) -> None:
        """Raise if what a server says of itself does not fit the URL."""
        mode = told.get("mode", self.mode)
        if mode != self.mode and mode in _RIGHT_URLS:
            raise WrongForm(
                f"REDIS_URL leads to {_KINDS_OF_SERVERS[mode]}; write it as {_RIGHT_URLS[mode]}"
            )

    def lost(self, connection: Any, error: Exception) -> None:
        """Note what a connection has raised, one of `_LOST`.

        Younger connections are kept: while there is no primary, they are made a few times a
        second, not at each command.
        """
        is_old = time.monotonic() - connection.since >= LOOK_AGAIN_S
        if isinstance(error, LOST_PRIMARY) and is_old:
            self.reopen()

    def reopen(self) -> None:
        """Have each connection reopened before its next use."""
        for connection in tuple(self._connections):
            connection.mark_for_reconnect()


class SentinelPool(_Pool):
    """The connections to whichever server Sentinels name as the primary."""

    def __init__(self, *, sentinels: Sentinels, **options: Any) -> None:
        super().__init__(**options)  # type: ignore[no-untyped-call]
        self.sentinels = sentinels
        self._at: Address | None = None
        self._looked_at = time.monotonic()

    def get_connection(self, command_name: Any = None, *keys: Any, **options: Any) -> Any:  # noqa: ARG002 - as declared
        """Lend a connection; while there is work, the Sentinels are asked now and then.

        After a failover on order the old primary takes writes until it is made a replica, 8 s later
        or more, and then forgets them.
        """
        now = time.monotonic()
        if now - self._looked_at >= LOOK_S:
            self._looked_at = now
            # Beside: one that does not answer must not hold up whoever sends.
            with suppress(RuntimeError):  # the interpreter is about to exit
                threading.Thread(target=self._look, name="callbacks-look", daemon=True).start()
        return super().get_connection()  # type: ignore[no-untyped-call]

    def _look(self) -> None:
        with suppress(redis.RedisError):
            self.address()

    def address(self) -> Address:
        """Ask the Sentinels; if the primary has moved, all other connections follow."""
        found = self.sentinels.primary()
        if self._at not in (None, found):
            self.reopen()
        self._at = found
        return found

    def check(self, told: Mapping[str, Any]) -> None:
        """Refuse a server that has not noticed yet that it is the primary, or no longer is."""
        super().check(told)
        if told.get("role", "master") != "master":
            raise NotPrimary("READONLY Sentinel names a server that is a replica")


class NodePool(_Pool):
    """The connections to one node of a cluster."""

    mode = "cluster"

    def __init__(self, *, cluster: Cluster, **options: Any) -> None:
        super().__init__(**options)  # type: ignore[no-untyped-call]
        self.cluster = cluster

    def lost(self, connection: Any, error: Exception) -> None:
        """Have the nodes asked where the slots are now, and name this one in the error.

        redis-py names it only if connecting fails, and there are others that answer.
        """
        self.cluster.outdated()
        where = f"{connection.host}:{connection.port}"
        is_away = isinstance(error, redis.ConnectionError | redis.TimeoutError)
        if is_away and where not in str(error):
            error.args = (f"{where}: {error}",)


class Nodes:
    """A process's connections to a cluster: a pool for each primary, made when it is needed."""

    def __init__(self, cluster: Cluster, options: Mapping[str, Any], most: int) -> None:
        """`options`: of a connection; `most`: how many there may be to one primary."""
        self.cluster = cluster
        self.options = options
        self._most = most
        self._pools: dict[Address, NodePool] = {}
        renew_after_fork(self)

    def reset_after_fork(self) -> None:
        """In a forked child, a thread that held a lock does not exist."""
        #: Held by who sends to several nodes at a time.
        self.streaming = threading.Lock()
        self._lock = threading.Lock()

    def home(self, key: Any) -> NodePool:
        """Find the pool of the primary that has a key now; raises redis-py's errors."""
        return self.pool(self.cluster.primary(key))

    def pool(self, address: Address) -> NodePool:
        """Return the pool of a node."""
        found = self._pools.get(address)
        return found or self._make(address)

    def most_each(self) -> int:
        """How many connections there may be to one primary."""
        share = max(self._most, _MOST_IN_ALL) // max(1, len(self.cluster.primaries()))
        return max(1, min(self._most, share))

    def _make(self, address: Address) -> NodePool:
        most = self.most_each()
        with self._lock:
            if address not in self._pools:
                host, port = address
                self._pools[address] = NodePool(
                    cluster=self.cluster,
                    host=host,
                    port=port,
                    max_connections=most,
                    **self.options,
                )
            return self._pools[address]

    def disconnect(self) -> None:
        """Close all connections."""
        for pool in tuple(self._pools.values()):
            pool.disconnect()


class ShardPool(ConnectionPoolInterface):
    """Lends connections to the primary that has a shard's keys now."""

    def __init__(self, nodes: Nodes, key: str) -> None:
        """`key`: any key of the shard."""
        self.nodes = nodes
        self.key = key
        self.connection_kwargs = dict(nodes.options)

    @property
    def patience_s(self) -> float:
        """For how long a command is repeated while the shard's slot is being moved."""
        return float(self.connection_kwargs["socket_timeout"])

    def get_connection(self, command_name: Any = None, *keys: Any, **options: Any) -> Any:  # noqa: ARG002 - as declared
        """Lend a connection."""
        return self.nodes.home(self.key).get_connection()  # type: ignore[no-untyped-call]

    def release(self, connection: Any) -> None:
        """Take a connection back."""
        connection.home.release(connection)

    def disconnect(self, inuse_connections: bool = True) -> None:  # noqa: ARG002 - as declared
        """Close all connections of the process to the cluster."""
        self.nodes.disconnect()

    close = disconnect

    def reset(self) -> None:
        """Do nothing: the pools of the nodes notice a fork themselves."""

    def get_protocol(self) -> Any:
        """Return the version of RESP."""
        return self.connection_kwargs["protocol"]

    def get_encoder(self) -> Any:
        """Return what turns arguments into bytes."""
        return BlockingConnectionPool.get_encoder(self)  # type: ignore[arg-type]

    def set_retry(self, retry: Retry) -> None:
        """Refuse: redis-py retries nothing."""
        raise NotImplementedError

    def re_auth_callback(self, token: Any) -> None:
        """Refuse: there are no tokens."""
        raise NotImplementedError

    def get_connection_count(self) -> list[tuple[int, dict[Any, Any]]]:
        """Return nothing: each node's pool counts its own."""
        return []


class _ShardPipeline(Pipeline):
    """Commands that are sent again, all of them, while their slot is elsewhere."""

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        """Send the commands; they must be harmless to repeat."""
        commands = list(self.command_stack)
        pool: Any = self.connection_pool

        def once() -> list[Any]:
            self.command_stack = list(commands)
            return list(super(_ShardPipeline, self).execute(raise_on_error))

        done: list[Any] = until_found(once, pool.patience_s)
        return done


class _ShardClient(Redis):
    """A client for one shard's keys on a cluster: follows them to wherever they are moved."""

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Execute a command, and again while its slot is elsewhere."""
        pool: Any = self.connection_pool
        return until_found(
            lambda: super(_ShardClient, self).execute_command(*args, **options),  # type: ignore[no-untyped-call]
            pool.patience_s,
        )

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Pipeline:
        """Make a pipeline that follows the keys."""
        return _ShardPipeline(
            self.connection_pool, self.response_callbacks, transaction, shard_hint
        )


def connect(settings: Settings, *, beside: Redis | None = None) -> Redis:
    """Build a client for the keys of `settings.namespace`; opens no connection yet.

    Connecting, each command, and the wait for a free connection end within
    `settings.redis_timeout` seconds. `beside`: a client with the same settings; on a cluster the
    new one asks the nodes nothing that it knows.
    """
    key = Keys(settings.namespace).root
    place = settings.redis_place
    if place.form is Form.CLUSTER:
        known: object = beside.connection_pool if beside is not None else None
        cluster = known.nodes.cluster if isinstance(known, ShardPool) else _cluster(settings, place)
        nodes = Nodes(cluster, _options(settings, place), settings.redis_max_connections)
        return _ShardClient(connection_pool=ShardPool(nodes, key))  # type: ignore[arg-type]
    if place.form is Form.SENTINEL:
        return Redis(connection_pool=_sentinel_pool(settings, place))
    options = _options(settings, place)
    options["max_connections"] = settings.redis_max_connections
    return Redis(connection_pool=_Pool.from_url(settings.redis_url, **options))


def at(client: Redis, key: str) -> Redis:
    """Return a client for the shard that has a key: on a cluster one of its own, else the same."""
    pool: object = client.connection_pool
    if not isinstance(pool, ShardPool) or pool.key == key:
        return client
    return _ShardClient(connection_pool=ShardPool(pool.nodes, key))  # type: ignore[arg-type]


def _options(settings: Settings, place: RedisPlace) -> dict[str, Any]:
    """The options of a pool and its connections, but for where they lead."""
    scheme = settings.redis_url.partition(":")[0].partition("+")[0]
    options: dict[str, Any] = {
        "connection_class": _CONNECTIONS[scheme],
        "parser_class": _Parser,
        "timeout": settings.redis_timeout,
        "socket_timeout": settings.redis_timeout,
        "socket_connect_timeout": settings.redis_timeout,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
    }
    if scheme != "unix":
        options["socket_keepalive"] = True
    if place.form is not Form.SERVER:
        options |= {"username": place.username, "password": place.password} | place.certificates
    return options | _unverified(settings, place)


def _unverified(settings: Settings, place: RedisPlace) -> dict[str, Any]:
    if not place.tls or settings.redis_tls_verify:
        return {}
    return {"ssl_cert_reqs": ssl.CERT_NONE, "ssl_check_hostname": False}


def _plain(settings: Settings, place: RedisPlace) -> dict[str, Any]:
    """The options of redis-py's own connections, on which it asks where a primary is."""
    if not place.tls:
        return {}
    return {"ssl": True} | place.certificates | _unverified(settings, place)


def _cluster(settings: Settings, place: RedisPlace) -> Cluster:
    options = _plain(settings, place)
    options |= {"username": place.username, "password": place.password}
    return Cluster(place.hosts, options, settings.redis_timeout)


def _sentinel_pool(settings: Settings, place: RedisPlace) -> SentinelPool:
    options = _plain(settings, place)
    options |= {
        "username": place.options.get("sentinel_username"),
        "password": place.options.get("sentinel_password"),
    }
    return SentinelPool(
        sentinels=Sentinels(place.hosts, place.master, options, settings.redis_timeout),
        db=place.db,
        max_connections=settings.redis_max_connections,
        **_options(settings, place),
    )
