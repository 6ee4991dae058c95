"""Every Redis key of the batcher, made in one place.

All begin with `{<namespace>}:`; the braces are a hash tag, so that one slot of a cluster
holds them all. `<destination>` and `<id>` stand for the end of a family's names. Times are
Redis `TIME` in integer milliseconds.

lane:<destination>      zset    id -> due time (QUEUE is all lanes together)
                                deleted by claim, cancel, expire
ring                    zset    destination with something waiting -> when it may next be
                                claimed from, inf while paused; by whoever empties its lane
unproven                zset    the ring of those that have not answered lately (no `ok`, or
                                `broken`); likewise
places                  zset    id in flight, or claimed for such a destination -> from when it
                                takes one of the places for those: at once, or where its
                                destination has answered lately, when its answer is overdue
                                by settle, release, reclaim, whoever ends it
workers                 hash    worker process -> its threads or greenlets, its places for those,
                                and until when its word counts; by tick
cb:<id>                 string  the frozen request, see `freeze.pack`
                                by whoever ends it as sent or cancelled, purge, trim
rec:<id>                hash    see below; by trim, purge
processing              zset    id -> its slot or the time of its retry while it is claimed, and
                                minus the end of its lease while it is being sent (PROCESSING):
                                no setting of the past is in it, and the two never mix
                                by settle, release, reclaim, cancel, expire
expiry                  zset    id of every queued or processing callback -> end of its life
                                by whoever ends it
sent                    zset    id of a sent or cancelled callback -> when it ended; by trim
dead                    zset    id of a dead letter -> when it died; by replay, purge, trim
dest:<destination>      hash    see below; expires a day after its last use
dest:<host>#*           hash    `paused`: all lanes of a host are, also those to come; beside it
                                the lanes that were resumed since; by resume
inflight:<destination>  zset    id -> end of its lease; by whoever ends the request, begin
                                (past ones), or expires by itself
destinations            zset    destination -> last use, to ten minutes; by trim, a day after that
tried                   zset    destination that had answered before -> its last attempt or claim,
                                within a minute; by settle
failing                 zset    those of them whose last attempt failed in transport; by settle
gone                    zset    SHA-1 of a URL that answered 410 -> when; by forgive, trim
                                (the newest 100,000 stay)
state                   hash    `slot`, `send`, `paused`, `last_batch`, `next_batch`, `earliest`,
                                `check_at`, `peek_at`, `fence`, `rate`, `stagger`, `why`,
                                `told` (up to when deaths have been told of),
                                `scheduled` (when the scheduler was heard of last),
                                `ticked` (when a worker ticked last: one is alive),
                                `full` (refuse enqueues: Redis is near its memory limit),
                                `unproven_most` (most of `places`),
                                `unsigned` (what the secret resolver last did instead),
                                `held` (until when nothing ends for its age), `jump` (by how much
                                Redis' clock jumped ahead) and `jumped` (when that was noticed),
                                `epoch` (names these data), `lost` (when a process saw that
                                the data it knew are gone)
lock                    string  the dispatcher's token and fence; by unlock, or expires
claimed                 string  the last claim's nonce and answer; expires after a minute
answer:<nonce>          string  the answer to a replay, purge, resume or forgive, should its
                                reply have been lost; expires after a minute
tick                    string  who ticks; expires after the check interval
suspects                zset    id in flight that has crashed before -> end of its lease
                                by settle, reclaim, begin (past ones), or expires
trial                   string  the id whose last try is made, while no other suspect is in flight
                                by settle, reclaim, or expires with its lease
counters                hash    `accepted`, `sent`, ...: transitions, never falling; by nobody
rate:<n>                hash    the same for the n-th 10 s since 1970; expires after 15 min

Fields of `rec:<id>`, short because there is one for each callback that was ever claimed (scripts
call them by the names in `lua/parts/record.lua`):
`s` phase (`queued`, `claimed`, `sending`, `retry`, or a final state), `d` destination,
`t` token of the claim, `due`, `a` attempts begun, `r` retries used, `c` crashes, `th`
throttled answers, `at` when the attempt began, `bn` its nonce, `w` last repeated wake-up,
`p` it is its half-open destination's probe, `u` its next attempt has been counted already (an
instant was missed and given up, or there was no secret), `ns` attempts in a row without a secret,
`end` its end of life while a request is in flight past it,
`x` a cancel came during the request, `h` history (JSON lists, comma-separated), `e` detail
of the last failure, `o` why it ended, `f` when it ended.

Fields of `dest:`: `slot` and `send` as in `state`; `used` (when the claims last said so in
`destinations`); `paused`; `hold` (not claimed from before) and `why` (`full`: until a request
ends, `park`: it asked for it, `breaker`, `secret`: there was none), `unsigned` (attempts in a row
that had no secret) and `unsigned_at` (when the last one was); `ok` (it has answered 2xx, and has
not timed out since); `seen` (when it answered last, whatever it said) and `tried_at` (when the key
`tried` was last told so); `fails` (consecutive faults), `share` (of faults among its last answers,
in thousandths), `broken`, `opens` (times in a row that its breaker opened); `interval` (us),
`moved` (why it changed last) and `grown` (when it grew last); `latency` (ms, smoothed); `last`
(when and how it answered); `m`, `mc`, `mp` (this minute, attempts in it and in the one before).
`slot` is the next free slot of the schedule that claims extend, `send` the earliest instant at
which the pace gate of `begin` lets the next send go; `rate` (sends per 1000 s), `stagger` (us)
and `why` are what was decided last; no batch is claimed before `earliest`.
"""

from __future__ import annotations

from typing import Final

#: Names as the headers of the Lua files spell them. One that ends in a colon is the common
#: start of a family; a script appends an id or a destination to it.
NAMES: Final = frozenset(
    {
        "lane:",
        "ring",
        "unproven",
        "places",
        "workers",
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
        "gone",
        "state",
        "lock",
        "claimed",
        "answer:",
        "tick",
        "suspects",
        "trial",
        "counters",
        "rate:",
    }
)


def field_of(name: str) -> str:
    """How scripts call a key in their table `K`: `K.ring`, and `K.lanes` for a family."""
    return f"{name[:-1]}s" if name.endswith(":") else name


class Keys:
    """The keys of one namespace."""

    def __init__(self, namespace: str) -> None:
        self.root = f"{{{namespace}}}:"

    def of(self, name: str, member: str = "") -> str:
        """Return the key called `name`, or of `member` in that family.

        Raises `KeyError` for a name that is not in the table above.
        """
        if name not in NAMES:
            raise KeyError(name)
        return f"{self.root}{name}{member}"
