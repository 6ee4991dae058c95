"""Which shard has what: a destination by its hash, an id by its own shard or a reservation there.

The *own shard* of an id is the one that a minted id names (`cb_<24 hex>.<shard, 2 hex>`), or else a
hash of the id. A minted id's callback is there. So is another id's, unless its destination belongs
to another shard: then its own shard has a reservation that says where the callback is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Final, TypeVar

from redis import Redis

from callbacks.batcher.errors import AWAY, ShardsAway
from callbacks.batcher.scripts import Scripts

_T = TypeVar("_T")
_K = TypeVar("_K", bound=Hashable)

_MINTED_CHARS: Final = 30
_MINTED: Final = re.compile(r"cb_[0-9a-f]{24}\.([0-9a-f]{2})")


def with_shard(id: str, shard: int) -> str:
    """A minted id that names the shard of its callback."""
    return f"{id}.{shard:02x}"


@lru_cache(maxsize=4_096)
def shard_of(destination: str, shards: int) -> int:
    """The shard of a destination, or of an id by its hash; never another one."""
    return _hashed(destination, shards)


def own_shard(id: str, shards: int) -> int:
    """The own shard of an id."""
    # Most ids that are not minted have another length, which is quicker to see.
    named = _MINTED.fullmatch(id) if len(id) == _MINTED_CHARS else None
    shard = int(named[1], 16) if named else shards
    return shard if shard < shards else _hashed(id, shards)


def _hashed(text: str, shards: int) -> int:
    if shards == 1:
        return 0
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") % shards


def shard_of_token(token: str) -> int | None:
    """The shard that the token of a claim names; None: there was only one."""
    number = token.partition("-")[0]
    return int(number) if number.isdecimal() and number != token else None


class AllScripts:
    """The verbs of all shards of one system, for those who read or route.

    `home`: the keys that belong to no shard, see `keys`; those of the only shard if there is one.
    """

    def __init__(self, home: Scripts, shards: Sequence[Scripts]) -> None:
        self.home = home
        self.shards = tuple(shards)

    @property
    def client(self) -> Redis:
        """The client of what belongs to no shard; each shard has its own."""
        return self.home.client

    def of(self, destination: str) -> Scripts:
        """The shard of a destination."""
        return self.shards[shard_of(destination, len(self.shards))]

    def run_in_all(self, verb: str, call: Mapping[str, Any]) -> list[Any]:
        """Call a verb that changes nothing in each shard; raises an error that names shards."""
        if len(self.shards) == 1:
            return [self.home.run(verb, call)]
        answers = self.home.run_across(verb, ((shard, call) for shard in self.shards))
        raise_for(answers)
        return answers

    def locate(self, ids: Sequence[str]) -> list[Scripts]:
        """The shards that have these callbacks, or would have."""
        count = len(self.shards)
        if count == 1:
            return [self.home] * len(ids)
        reserved = zip(ids, self.reserved(ids), strict=True)
        places = (own_shard(id, count) if there is None else there for id, there in reserved)
        return [self.shards[place] for place in places]

    def first(self, name: str, limit: int, *, newest: bool = False) -> list[str]:
        """The members of a sorted set of each shard with the lowest scores, or highest, of all."""
        order = ("REV",) if newest else ()
        keys = (shard.keys.of(name) for shard in self.shards)
        commands = (("ZRANGE", key, 0, limit - 1, *order, "WITHSCORES") for key in keys)
        found: list[tuple[float, str]] = []
        for flat in self.home.stream(commands):
            found += zip(map(float, flat[1::2]), map(bytes.decode, flat[::2]), strict=True)
        return [member for _, member in sorted(found, reverse=newest)[:limit]]

    def reserved(self, ids: Sequence[str]) -> list[int | None]:
        """For which shards ids are reserved in their own ones; None: for no other."""
        own = ((id, self.shards[own_shard(id, len(self.shards))]) for id in ids)
        values = self.home.stream(("GET", shard.keys.of("at:", id)) for id, shard in own)
        return [reserved_for(value) for value in values]


def raise_for(answers: Sequence[Any]) -> None:
    """Raise an error that names the shards whose answers, in order, are errors."""
    failed = [n for n, answer in enumerate(answers) if isinstance(answer, Exception)]
    if not failed:
        return
    error = answers[failed[0]]
    if not isinstance(error, AWAY):
        raise error
    raise ShardsAway(failed, len(answers), error) from error


def as_all(scripts: Scripts | AllScripts) -> AllScripts:
    """One shard's verbs as those of a system that has no other."""
    return scripts if isinstance(scripts, AllScripts) else AllScripts(scripts, (scripts,))


def reserved_for(value: bytes | None) -> int | None:
    """The shard that a reservation names."""
    return None if value is None else int(value.split()[0])


def by_shard(names: Iterable[str], shards: int) -> dict[int, list[str]]:
    """Sort destinations by shard, keeping their order within each."""
    return grouped(names, lambda name: shard_of(name, shards))


def grouped(ones: Iterable[_T], by: Callable[[_T], _K]) -> dict[_K, list[_T]]:
    """Sort into groups, by shard for instance, keeping the order within each."""
    found: dict[_K, list[_T]] = {}
    for one in ones:
        found.setdefault(by(one), []).append(one)
    return found


def least(times: Iterable[int | None]) -> int | None:
    """The earliest of those that there are."""
    return min((at for at in times if at is not None), default=None)
