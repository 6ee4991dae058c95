"""The one place where a Redis client is built.

The broker and the batcher of a process share one client and its pool. A pool that is empty
makes its callers wait instead of raising, RESP2 keeps redis-py's check for unread replies on
a pooled connection, and nothing is repeated behind our back: what may be repeated, and how
often, is said where the verbs are (`scripts.Scripts`).
"""

from __future__ import annotations

import ssl
from typing import Any

from redis import BlockingConnectionPool, Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from callbacks.settings import Settings


def connect(settings: Settings) -> Redis:
    """Build a client for `settings.redis_url`; opens no connection yet.

    Connecting, each command, and the wait for a free connection end within
    `settings.redis_timeout` seconds.
    """
    options: dict[str, Any] = {
        "max_connections": settings.redis_max_connections,
        "timeout": settings.redis_timeout,
        "socket_timeout": settings.redis_timeout,
        "socket_connect_timeout": settings.redis_timeout,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
        "socket_keepalive": True,
        "client_name": "callbacks",
    }
    if settings.redis_url.startswith("unix:"):
        del options["socket_keepalive"]
    if settings.redis_url.startswith("rediss:") and not settings.redis_tls_verify:
        options |= {"ssl_cert_reqs": ssl.CERT_NONE, "ssl_check_hostname": False}
    return Redis(connection_pool=BlockingConnectionPool.from_url(settings.redis_url, **options))
