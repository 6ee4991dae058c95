"""What error replies of Redis mean, whichever release sends them.

`KINDS` maps the first word of a reply, its code. Redis 6.2 wraps the errors of commands in a script
(`ERR Error running script (call to f_…): @user_script:1: @user_script: 1: -READONLY …`), and some
errors have other words and no code in a script; `unwrapped` gives all of them one form.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, Final

import redis
from redis.exceptions import BusyLoadingError

from callbacks.model import CallbacksError, Receipt


class NotNow(redis.ResponseError):
    """Redis answered that it cannot do it now; nothing was changed."""


class NotPrimary(NotNow):
    """Redis answered that another server has to do it: this one is no longer the primary."""


class Elsewhere(NotPrimary):
    """A node of a cluster answered that another one has the slot, or will have it soon.

    The command was not executed, so that it may be repeated whatever it does.
    """


class RedisRefused(CallbacksError, redis.ConnectionError):
    """Redis refused a command: it is a replica, accepts no writes now, or forbids it.

    The message is Redis' own. Like every Redis error that `enqueue` raises it carries
    `callback_id`, with which the call may be repeated, and `receipts`: those of the callbacks
    of the same `enqueue_many` that were stored.
    """

    callback_id: str | None = None
    receipts: tuple[Receipt, ...] = ()


class NotDurable(CallbacksError, redis.ConnectionError):
    """Redis has stored it, but has not said in time that it is as durable as was asked for.

    See `CALLBACKS_WAIT_FOR`. Calling again with `callback_id` waits again. `receipts`: as of
    `RedisRefused`. `reply`: what the script answered.
    """

    callback_id: str | None = None
    receipts: tuple[Receipt, ...] = ()
    reply: Any = None


class ShardsAway(redis.ConnectionError):
    """The primaries of some shards cannot be reached; the others are well.

    `shards`: their numbers; `count`: how many there are in all.
    """

    def __init__(self, shards: Sequence[int], count: int, why: Exception) -> None:
        self.shards, self.count = tuple(shards), count
        super().__init__(f"{self.which}: {why}")

    @property
    def which(self) -> str:
        """The shards, for people."""
        return which_shards(self.shards, self.count)


def which_shards(shards: Iterable[int], count: int) -> str:
    """Some shards of `count`, for people."""
    names = [str(shard) for shard in shards]
    return f"{'shard' if len(names) == 1 else 'shards'} {', '.join(names)} of {count}"


class WrongForm(RedisRefused):
    """The server is of another kind than the form of its URL says; names the right form."""


KINDS: Final[Mapping[str, type[redis.RedisError]]] = MappingProxyType(
    {
        # Only a new connection helps: it may reach the new primary.
        "READONLY": NotPrimary,
        "MASTERDOWN": NotPrimary,
        "MOVED": Elsewhere,
        "ASK": Elsewhere,
        "TRYAGAIN": Elsewhere,
        "CLUSTERDOWN": NotPrimary,
        "UNBLOCKED": NotPrimary,  # demoted while a command waited
        "LOADING": BusyLoadingError,
        # The same server will do it later.
        "NOREPLICAS": NotNow,
        "MISCONF": NotNow,
        "BUSY": NotNow,
    }
)

#: After one of these, no connection to the server that sent it is of use.
LOST_PRIMARY: Final = (NotPrimary, BusyLoadingError)

#: Redis is unreachable or cannot do it now: calling again may help.
AWAY: Final = (redis.ConnectionError, redis.TimeoutError, NotNow)

_WRAPPING: Final = re.compile(r"^ERR Error running script \(call to \w+\): (?:@?\w+: ?\d+: )*-?")
_CODE: Final = re.compile(r"[A-Z]+ ")
#: The position in the script, which is of interest only if the script is at fault.
_PLACE: Final = re.compile(r" script: (?:\w+, )?on @\w+:\d+\.?$")
#: Words of replies that have no code, and the code of the same error outside a script.
_WORDS: Final = (
    ("while the cluster is down", "CLUSTERDOWN"),
    # No MOVED, after which a command may be repeated whatever it does: this one has begun.
    ("attempted to access a non local key", "CLUSTERDOWN"),
    ("ACL failure in script", "NOPERM"),
    ("The user executing the script can't", "NOPERM"),
)


def unwrapped(reply: str) -> str:
    """Return an error reply in the form it has outside a script, code first."""
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


@contextmanager
def as_documented() -> Iterator[None]:
    """Turn Redis errors into those that the public functions are documented to raise."""
    try:
        yield
    except redis.RedisError as error:
        told = documented(error)
        if told is error:
            raise
        raise told from error


def documented(error: redis.RedisError) -> redis.ConnectionError | redis.TimeoutError:
    """Turn a Redis error into one that the public functions are documented to raise."""
    if isinstance(error, redis.ConnectionError | redis.TimeoutError):
        return error
    return RedisRefused(str(error))
