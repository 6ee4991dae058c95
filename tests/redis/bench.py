"""A batcher on a real server whose scripts read a clock that the test moves.

Only the clock is faked: `now`, which the loader puts before each script, is read from a key instead
of `TIME`. What Redis expires by itself expires by this clock, too. A script's text can be broken on
purpose (`Mutant`), to show that a test notices.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from importlib import resources
from typing import Any, Final

import redis

from callbacks.batcher.audit import audit
from callbacks.batcher.inspector import Inspector
from callbacks.batcher.scripts import VERBS, Verb
from callbacks.batcher.store import Batcher
from callbacks.settings import Settings

#: Any time will do; a fixed one makes runs repeatable.
START_MS: Final = 1_800_000_000_000
_CLOCK: Final = "{callbacks}:test-clock"
_ENDS: Final = "{callbacks}:test-ends"
_REAL: Final = """\
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
"""
_REAL_END: Final = "local left = redis.call('PTTL', key)\n"
_FAKED_END: Final = f"""
  local left, at = redis.call('PTTL', key), redis.call('HGET', '{_ENDS}', key)
  if left >= 0 and at then left = at - redis.call('GET', '{_CLOCK}') end
"""
_FAKED: Final = f"local now = tonumber(redis.call('GET', '{_CLOCK}'))\n"

#: Keys given a time to live since the last snapshot get their end on the test's clock instead. Ends
#: are whole seconds away, so the time between a call and its snapshot does not matter.
_SNAPSHOT: Final = """
local all, clock, never = {}, tonumber(redis.call('GET', KEYS[1])), 1000000000000
for _, name in ipairs(redis.call('KEYS', '*')) do
  local kind, value, left = redis.call('TYPE', name).ok, nil, redis.call('PTTL', name)
  if left < 0 then redis.call('HDEL', KEYS[2], name) end
  if left >= 0 and left < never / 2 then
    redis.call('HSET', KEYS[2], name, clock + math.ceil(left / 1000) * 1000)
    redis.call('PEXPIRE', name, never)
  end
  if kind == 'string' then value = {redis.call('GET', name)}
  elseif kind == 'hash' then value = redis.call('HGETALL', name)
  else value = redis.call('ZRANGE', name, 0, -1, 'WITHSCORES') end
  all[#all + 1] = {name, kind, value}
end
return all
"""
_ADVANCE: Final = """
local before, never = tonumber(redis.call('GET', KEYS[1])), 1000000000000
for i = 2, #ARGV do
  local left = redis.call('PTTL', ARGV[i])
  if left < 0 then redis.call('HDEL', KEYS[2], ARGV[i]) end
  if left >= 0 and left < never / 2 then
    redis.call('HSET', KEYS[2], ARGV[i], before + math.ceil(left / 100) * 100)
    redis.call('PEXPIRE', ARGV[i], never)
  end
end
local clock = redis.call('INCRBY', KEYS[1], ARGV[1])
local ends = redis.call('HGETALL', KEYS[2])
for i = 1, #ends, 2 do
  if tonumber(ends[i + 1]) <= clock then
    redis.call('DEL', ends[i])
    redis.call('HDEL', KEYS[2], ends[i])
  end
end
"""


@dataclass(frozen=True, slots=True)
class Mutant:
    """One defect: `old` occurs once in the text of `verb`, and `new` replaces it.

    `seed` is one whose random calls find it soon; others take longer.
    """

    verb: str
    old: str
    new: str
    seed: int = 0


def replaced(text: str, old: str, new: str) -> str:
    """Replace what occurs exactly once, so that no replacement silently does nothing."""
    assert text.count(old) == 1, f"stands {text.count(old)} times: {old!r}"
    return text.replace(old, new)


def verbs() -> list[str]:
    folder = resources.files("callbacks.batcher") / "lua"
    names = (file.name for file in folder.iterdir())
    return sorted(name.removesuffix(".lua") for name in names if name.endswith(".lua"))


@dataclass(frozen=True)
class Seen:
    """All keys but the clock, at one instant, without `{callbacks}:` before their names."""

    keys: Mapping[str, Any] = field(default_factory=dict)

    def of(self, name: str) -> Any:
        return self.keys.get(name, {})

    def ring(self) -> dict[str, float]:
        """Both rings: when each waiting destination may next be claimed from."""
        proven, unproven = self.of("ring"), self.of("unproven")
        assert not proven.keys() & unproven.keys(), "in both rings"
        return {**proven, **unproven}

    def is_unproven(self, destination: str) -> bool:
        d = self.of(f"dest:{destination}")
        return "ok" not in d or "broken" in d

    def needs_place(self, destination: str, now: int) -> bool:
        """Whether it is unproven, or hangs while many do."""
        flying = self.of(f"inflight:{destination}")
        oldest = min(((at, each) for each, at in flying.items()), default=(0, ""))[1]
        places, most = self.of("places"), self.of("state").get("unproven_most", "inf")
        crowded = sum(at <= now for at in places.values()) > 1.25 * float(most)
        slow = int(self.of(f"dest:{destination}").get("latency", 0)) >= 2_000
        hangs = crowded and (slow or float(places.get(oldest, "inf")) <= now)
        return self.is_unproven(destination) or hangs

    def family(self, prefix: str) -> dict[str, Any]:
        """The members of a family of keys, with their contents."""
        start = len(prefix)
        return {name[start:]: v for name, v in self.keys.items() if name.startswith(prefix)}

    def due(self, destination: str, id: str) -> int:
        return int(self.of(f"lane:{destination}")[id])

    def pace_ms(self, key: str, stored: str, settings: Settings) -> int:
        """The current time between two sends, of `state` or of one `dest:`."""
        set_s = settings.send_interval if key == "state" else settings.destination_interval
        adapted = self.of(key).get(stored)
        if not set_s or not settings.adaptive or adapted is None:
            return round(set_s * 1000)
        return -(-int(float(adapted)) // 1000)

    def without_noise(self) -> dict[str, Any]:
        """What a refusal must not change: all but three counts and the rate buckets."""
        kept = {name: v for name, v in self.keys.items() if not name.startswith("rate:")}
        counts = dict(self.of("counters"))
        kept["counters"] = {
            k: v for k, v in counts.items() if k not in {"stale", "refused", "duplicates"}
        }
        return kept


class Bench:
    """One client and the altered scripts; an example starts with `begin_anew`."""

    def __init__(self, client: redis.Redis, mutant: Mutant | None = None) -> None:
        self.client = client
        self.root = "{callbacks}:"
        self.verbs = {name: self._altered(name, mutant) for name in verbs()}
        self._snapshot = client.register_script(_SNAPSHOT)
        self._advance = client.register_script(_ADVANCE)
        self.now_ms = START_MS

    def _altered(self, name: str, mutant: Mutant | None) -> Verb:
        verb = VERBS[name]
        text = replaced(verb.text, _REAL, _FAKED)
        if "'PTTL'" in text:  # not every verb looks at the end of a key
            text = replaced(text, _REAL_END, _FAKED_END)
        if mutant and mutant.verb == name:
            text = replaced(text, mutant.old, mutant.new)
        return replace(verb, text=text, sha=hashlib.sha1(text.encode()).hexdigest())

    def begin_anew(self, settings: Settings) -> Batcher:
        self.client.flushall()
        self.now_ms = START_MS
        self.client.set(_CLOCK, self.now_ms)
        batcher = Batcher(self.client, settings, verbs=self.verbs)
        self.inspector = Inspector(batcher.scripts)
        return batcher

    def advance(self, ms: int, *, unseen: Iterable[str] = ()) -> None:
        """Let time pass; `unseen`: keys that may have got an expiry since the last snapshot."""
        self.now_ms += ms
        names = [self.root + name for name in unseen]
        self._advance(keys=[_CLOCK, _ENDS], args=[ms, *names])

    def prove(self, destinations: Iterable[str]) -> None:
        """Make destinations proven, so that they may have several requests in flight."""
        for name in destinations:
            self.client.hset(f"{self.root}dest:{name}", "ok", 1)

    def lose_lock(self) -> None:
        self.client.delete(f"{self.root}lock")

    def see(self) -> Seen:
        found: Any = self._snapshot(keys=[_CLOCK, _ENDS])
        named = {name.decode(): (kind, value) for name, kind, value in found}
        kept = {name: named[name] for name in named.keys() - {_CLOCK, _ENDS}}
        own = {name: kept[name] for name in kept if name.startswith(self.root)}
        return Seen({name.partition("}:")[2]: _content(*content) for name, content in own.items()})

    def problems(self) -> list[str]:
        return list(audit(self.inspector))


class ShardBench(Bench):
    """The bench of one of several shards; they share the clock."""

    def __init__(self, bench: Bench, batcher: Batcher) -> None:
        self._bench = bench
        self.client, self.verbs = bench.client, bench.verbs
        self._snapshot, self._advance = bench._snapshot, bench._advance
        self.root = batcher.scripts.keys.root
        self.inspector = Inspector(batcher.scripts)

    @property  # type: ignore[override]  # an attribute there
    def now_ms(self) -> int:
        return self._bench.now_ms

    @now_ms.setter
    def now_ms(self, at: int) -> None:
        self._bench.now_ms = at


def _content(kind: bytes, flat: list[bytes]) -> Any:
    words = [word.decode() for word in flat]
    if kind == b"string":
        return words[0]
    pairs = dict(zip(words[::2], words[1::2], strict=True))
    return pairs if kind == b"hash" else {member: float(at) for member, at in pairs.items()}
