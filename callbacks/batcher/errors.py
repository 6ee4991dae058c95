"""What error replies of Redis mean: one table, in whatever form a release sends them.

`KINDS` goes by the first word of a reply. Redis 6.2 wraps what a command in a script has raised
(`ERR Error running script (call to f_…): @user_script:1: @user_script: 1: -READONLY …`), and in
scripts some errors have words of their own and no code; `unwrapped` makes all of them alike.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import redis
from redis.exceptions import BusyLoadingError

from callbacks.model import CallbacksError, Receipt


class NotNow(redis.ResponseError):
    """Redis answered, and cannot do it for now; it has done nothing."""


class NotPrimary(NotNow):
    """Redis answered that it is another server's to do: this one is not the primary any more."""


class RedisRefused(CallbacksError, redis.ConnectionError):
    """Redis answered, and did not take it: it is a replica, takes no writes now, forbids it.

    Its text is what Redis said. Like every error of Redis that `enqueue` raises it carries
    `callback_id`, with which the call may be repeated, and `receipts`, those of the callbacks
    of the same `enqueue_many` that were stored.
    """

    callback_id: str | None = None
    receipts: tuple[Receipt, ...] = ()


class ClusterUnsupported(RedisRefused):
    """The server is a node of a Redis Cluster."""


KINDS: Final[Mapping[str, type[redis.RedisError]]] = MappingProxyType(
    {
        # Here only another connection helps, which may find the server that is the primary now.
        "READONLY": NotPrimary,
        "MASTERDOWN": NotPrimary,
        "MOVED": NotPrimary,
        "ASK": NotPrimary,
        "CLUSTERDOWN": NotPrimary,
        "UNBLOCKED": NotPrimary,  # demoted while a command waited
        "LOADING": BusyLoadingError,
        # Here the same server will do it later.
        "TRYAGAIN": NotNow,
        "NOREPLICAS": NotNow,
        "MISCONF": NotNow,
        "BUSY": NotNow,
    }
)

#: After one of these the server that sent it is of no use to anybody.
LOST_PRIMARY: Final = (NotPrimary, BusyLoadingError)

#: Redis is away, or cannot do it for now: calling again may help.
AWAY: Final = (redis.ConnectionError, redis.TimeoutError, NotNow)

_WRAPPING: Final = re.compile(r"^ERR Error running script \(call to \w+\): (?:@?\w+: ?\d+: )*-?")
_CODE: Final = re.compile(r"[A-Z]+ ")
#: Where in a script it happened, which matters only where the script is to blame.
_PLACE: Final = re.compile(r" script: (?:\w+, )?on @\w+:\d+\.?$")
#: What replies without a code of their own say, and the code of the same error outside a script.
_WORDS: Final = (
    ("while the cluster is down", "CLUSTERDOWN"),
    ("attempted to access a non local key", "MOVED"),
    ("ACL failure in script", "NOPERM"),
    ("The user executing the script can't", "NOPERM"),
)


def unwrapped(reply: str) -> str:
    """Give an error reply in the form that it has outside a script, its code first."""
    text = _WRAPPING.sub("", reply, count=1)
    if not _CODE.match(text):
        text = f"ERR {text}"
    code = text.partition(" ")[0]
    if code in KINDS:
        return _PLACE.sub("", text)
    if code != "ERR":
        return text
    words = text.removeprefix("ERR ")
    for known, code in _WORDS:
        if known.lower() in words.lower():
            return f"{code} {words}"
    return text


def documented(error: redis.RedisError) -> redis.ConnectionError | redis.TimeoutError:
    """Give an error of Redis as one that the public functions are documented to raise."""
    if isinstance(error, redis.ConnectionError | redis.TimeoutError):
        return error
    return RedisRefused(str(error))
