"""Every Redis key of the batcher, built in one place.

All begin with `{<namespace>}:`; the braces are a hash tag, so that all are in one slot of a
cluster. Several shards have all of these each, under tags of their own (see `shard_tags`), and
what is marked with + is under that of the namespace, which is no shard then. Times are Redis `TIME`
in integer milliseconds. "By" names what deletes a key or member.

lane:<destination>      zset    id -> due time (QUEUE is all lanes together)
                                by claim, cancel, expire
ring                    zset    proven destination with something waiting -> when it may next be
                                claimed from, inf while paused; by whatever empties its lane
unproven                zset    the same for unproven destinations (no `ok`, or `broken`)
places                  zset    id in flight, or claimed for an unproven destination -> since when
                                it takes an unproven destination's place: at once, or if its
                                destination is proven, once its answer is overdue
                                by settle, release, reclaim, whatever ends it
workers +               hash    worker process -> its threads or greenlets, its places for
                                unproven destinations, until when both are valid; by tick
identities +            hash    worker process -> since when it runs, and JSON: host, pid, version,
                                `threads` or `greenlets`, how many are busy, its Dramatiq broker;
                                apart from `workers`, whose words older processes read; by tick
held                    zset    destination that is paused, broken, parked or without a secret ->
                                when that was noticed; may have some that no longer are, until the
                                next tick; by note_holds
cb:<id>                 string  the frozen request, see `freeze.pack`
                                by whatever ends it as sent or cancelled, purge, trim
rec:<id>                hash    see below; by trim, purge
processing              zset    PROCESSING: id -> its slot or the time of its retry while claimed,
                                minus the end of its lease while being sent, so the two never
                                mix; a changed setting applies at once
                                by settle, release, reclaim, cancel, expire
expiry                  zset    id of each queued or processing callback -> its end of life
                                by whatever ends it
sent                    zset    id of a sent or cancelled callback -> when it ended; by trim
dead                    zset    id of a dead letter -> when it died; by replay, purge, trim
dest:<destination>      hash    see below; expires a day after its last use
dest:<host>#*           hash    `paused`: all lanes of the host are, future ones too; and the
                                lanes that were resumed since; by resume
inflight:<destination>  zset    id -> end of its lease; by whatever ends the request, by begin
                                once it is past, or expires
destinations            zset    destination -> last use, to ten minutes; by trim a day later
tried                   zset    destination that had answered before -> its last attempt or claim,
                                within a minute; by settle
failing                 zset    those in `tried` whose last attempt failed in transport; by settle
troubled                zset    destination in trouble -> since when; by settle, once it answers
                                2xx, and by trim
failed:<n>:<destination>
                        hash    reason -> failures in the n-th hour since 1970; expires after two
                                hours
gone                    zset    SHA-1 of a URL that answered 410 -> when; by forgive, trim
                                (keeps the newest 100,000)
state +                 hash    `slot`, `send`, `paused`, `last_batch`, `next_batch`, `earliest`,
                                `check_at`, `peek_at`, `fence`, `rate`, `stagger`, `why`,
                                `batch_before` (the batch before the last one),
                                `paused_by` (who and why, as in `journal`), `pause_at` and
                                `pause_end` (of the last pause of all), `reported` (the last
                                act that a worker has logged),
                                `told` (deaths up to then have been reported),
                                `scheduled` (when the scheduler was last seen),
                                `ticked` (when a worker last ticked: one is alive) and `busy`
                                (when a tick last found a callback that had not ended),
                                `full` (refuse enqueues: Redis is near its memory limit),
                                `threads` (of all workers), `unproven_most` (limit of `places`),
                                `unsigned` (the last error of the secret resolver),
                                `held` (nothing expires before), `jump` (how far Redis' clock
                                jumped ahead) and `jumped` (when that was noticed),
                                `epoch` (identifies this data), `lost` (when a process noticed
                                that the data it knew is gone), `shards` (how many there are)
wants +                 hash    what several shards want of the stagger over all, and have got, see
                                `lua/parts/bids.lua`
at:<id>                 string  the shard where a callback with an id of the caller's own is, or
                                will be, and when that was reserved; where there are several, and
                                only in the shard of the id; by unreserve, transfer
lock                    string  the dispatcher's token and fence; by unlock, or expires
claimed                 string  the last claim's nonce and answer; expires after a minute
answer:<nonce>          string  the answer to a replay, purge, resume or forgive, in case its
                                reply was lost; expires after a minute
tick +                  string  the elected ticker; expires after the check interval
suspects                zset    id in flight that has crashed before -> end of its lease
                                by settle, reclaim, by begin once it is past, or expires
trial                   string  the id on its last try, while no other suspect is in flight
                                by settle, reclaim, or expires with its lease
attempts                hash    outcome, reason, status class, duration and delivery delay (the
                                bounds of their buckets) of attempts -> how many; `duration`,
                                `delay`: their sums in ms, by tick; never decreasing; kept
history +               hash    `minute<n>`, `ten<n>` -> a sample of all totals and sizes, JSON, see
                                `history.Sample`: one a minute for the last hour, and the latest of
                                each ten minutes of the last day; n runs in a ring, so 206 at most
                                by tick, each by that of an hour or a day later
turn:<what> +           string  it was done just now, by one process for all; expires
journal +               list    what people did, the newest first: time and JSON, see `journal.Act`
                                at most 1,000 are kept
counters                hash    `accepted`, `sent`, ...: transitions, never decreasing; kept
rate:<n>                hash    the same for the n-th 10 s since 1970; expires after 15 min

Fields of `rec:<id>`, short because every callback ever claimed has one (scripts use the names in
`lua/parts/record.lua`):
`s` phase (`queued`, `claimed`, `sending`, `retry`, or a final state), `d` destination, `t` token of
the claim, `due`, `a` attempts begun, `r` retries used, `c` crashes, `th` throttled answers, `at`
when the attempt began, `bn` its nonce, `w` last repeated wake-up, `p` it is the probe of its
half-open destination, `u` its next attempt is already counted (it gave up a missed instant, or had
no secret), `ns` attempts in a row without a secret, `end` its end of life while a request is in
flight past it, `x` it was cancelled during the request, `h` history (JSON lists, separated by
commas), `e` detail of the last failure, `o` why it ended, `f` when it ended, `q` how it came to be
claimed (when it was due in its lane, when it was claimed, when the batch before was, and, if its
destination or all ever were, for how many ms it was held), `z` since when it has been due if it
went back to its lane unsent; and of a deleted request `y` its event, `n` its environment, `k` when
it was made, `v` its fingerprint (of URL and body).

Fields of `dest:`: `slot` and `send` as in `state`; `used` (when a claim last updated
`destinations`); `paused` and `paused_by`; `hold` (not claimed from before) and `why` (`full`: until
a request ends, `park`: the receiver asked for it, `breaker`, `secret`: none was found), `hold_at`
and `hold_end` (of the last hold or pause, but for `full`), `unsigned` (attempts in a row without a
secret) and `unsigned_at` (when the last one was); `ok` (it has answered 2xx, and has not timed out
since); `seen` (its last answer of any kind) and `tried_at` (when `tried` was last updated); `fails`
(consecutive faults), `share` (of faults among its last answers, in thousandths), `broken` (1: for
faults, 2: for refusals), `opens` (how often in a row its breaker opened); `refused` (3xx and 4xx in
a row), `denied` (callbacks in a row that died of 401, 403 or 404), `limited` (its last 429); a 2xx
deletes these three where `fails` is set, if only to 0; `interval` (us), `moved` (why it last
changed) and `grown` (when it last grew); `latency` (ms, smoothed); `last` (when and how it
answered, with the HTTP status); `m`, `mc`, `mp` (this minute, attempts in it and in the one
before).
`slot` is the next free slot of the schedule that claims extend, `send` the earliest instant at
which the gate of `begin` allows the next send; `rate` (sends per 1000 s), `stagger` (us) and `why`
are the last decision; no batch is claimed before `earliest`.
"""

from __future__ import annotations

from binascii import crc_hqx
from functools import lru_cache
from itertools import chain, count
from typing import Final

#: Of a Redis or Valkey Cluster.
_SLOTS: Final = 16_384

#: Names as spelled in the headers of the Lua files. One that ends in a colon is the prefix of a
#: family; scripts append an id or a destination.
NAMES: Final = frozenset(
    {
        "lane:",
        "ring",
        "unproven",
        "places",
        "workers",
        "identities",
        "held",
        "cb:",
        "rec:",
        "processing",
        "expiry",
        "sent",
        "dead",
        "dest:",
        "inflight:",
        "destinations",
        "tried",
        "failing",
        "troubled",
        "failed:",
        "wants",
        "at:",
        "gone",
        "state",
        "lock",
        "claimed",
        "answer:",
        "tick",
        "suspects",
        "trial",
        "attempts",
        "history",
        "turn:",
        "journal",
        "counters",
        "rate:",
    }
)


def field_of(name: str) -> str:
    """The name of a key in the scripts' table `K`: `ring`, or `lanes` for the family `lane:`."""
    return f"{name[:-1]}s" if name.endswith(":") else name


def arrivals_channel(namespace: str) -> str:
    """The channel that announces messages, by the full names of their queues (of Dramatiq)."""
    return f"{namespace}:__arrivals__"


@lru_cache
def shard_tags(namespace: str, shards: int) -> tuple[str, ...]:
    """The hash tags of all shards, in order.

    That of the only shard is the namespace. Those of several are `<namespace>:<number>`, or
    `<namespace>:<number>.<n>` with the smallest n that puts the shard into its own part of a
    cluster's slots: so they are even over primaries that have even parts of them.
    """
    if shards == 1:
        return (namespace,)
    return tuple(_tag(f"{namespace}:{shard}", shard, shards) for shard in range(shards))


def _tag(name: str, shard: int, shards: int) -> str:
    names = chain((name,), (f"{name}.{n}" for n in count(1)))
    return next(each for each in names if slot_of(each) * shards // _SLOTS == shard)


def slot_of(tag: str) -> int:
    """The slot of a cluster in which all keys with this hash tag are (Redis Cluster spec)."""
    return crc_hqx(tag.encode(), 0) % _SLOTS


class Keys:
    """The keys under one hash tag: a namespace, or one of its shards."""

    def __init__(self, tag: str) -> None:
        self.root = f"{{{tag}}}:"

    def of(self, name: str, member: str = "") -> str:
        """Return the key `name`, or that of `member` if it is a family.

        Raises `KeyError` for an unknown name.
        """
        if name not in NAMES:
            raise KeyError(name)
        return f"{self.root}{name}{member}"
