"""Mutants with one defect each: the machine has to notice every one.

A seed makes that quick, until rules or scripts change: then other seeds are tried, which takes
seconds, and a new one is worth finding.
"""

from __future__ import annotations

from typing import Final

from tests.redis.bench import Mutant

MUTANTS: Final = {
    "enqueue without the check for known ids": Mutant(
        "enqueue", "if is_known(id) then", "if false then", seed=1
    ),
    "enqueue that takes another URL for the same": Mutant(
        "enqueue", "is_conflict(id, request) and 2 or 0", "0", seed=1
    ),
    "enqueue that does not say when its callback expires": Mutant(
        "enqueue", "in_steps('ZADD', K.expiry, ends)", ""
    ),
    "claim without the lock": Mutant(
        "claim", "redis.call('GET', K.lock) ~= owner .. ':' .. fence", "false", seed=3
    ),
    "claim that leaves its callbacks in the lane": Mutant(
        "claim",
        ("redis.call('ZREMRANGEBYRANK', K.lanes .. self.name, 0, self.taken - 1)\n    "),
        "",
    ),
    "claim that takes one too many out of the lane": Mutant(
        "claim",
        "redis.call('ZREMRANGEBYRANK', K.lanes .. self.name, 0, self.taken - 1",
        "redis.call('ZREMRANGEBYRANK', K.lanes .. self.name, 0, self.taken",
    ),
    "claim that forgets whoever has nothing due yet": Mutant(
        "claim", "self.exhausted and not waits and not self.later", "not waits"
    ),
    "claim that forgets its last answer": Mutant(
        "claim", "before and string.sub(before, 1, #nonce) == nonce", "false", seed=2
    ),
    "claim before its time": Mutant(
        "claim", "is_first and now < last + min_interval and now >= last", "false", seed=3
    ),
    "claim while paused": Mutant("claim", "if s.paused then return {0, now, -1} end", "", seed=3),
    "claim that gives all the same slot": Mutant(
        "claim", "slot = slot + stagger", "slot = slot + 0"
    ),
    "claim from what is not due": Mutant("claim", "due > now", "false", seed=3),
    "claim that holds a destination for days": Mutant(
        "claim", "self.hold = now + ", "self.hold = now + 10000 * ", seed=9
    ),
    "claim that puts who has not answered lately among the others": Mutant(
        "claim", "turn.unproven and K.unproven or ", ""
    ),
    "claim from those that have not answered lately beyond their places": Mutant(
        "claim",
        "return math.max(0, most - redis.call('ZCOUNT', K.places, '-inf', now))",
        "return math.max(9, most - redis.call('ZCOUNT', K.places, '-inf', now))",
        seed=2,
    ),
    "claim that takes no place": Mutant("claim", ("places, places)\nin_steps('ZADD', K."), ""),
    "begin without a place": Mutant(
        "begin", "if needs_place and not has_place then return {2, now, 6} end", "", seed=4
    ),
    "begin that never counts as overdue": Mutant(
        "begin", "needs_place and now or overdue_from(at, d.latency)", "now"
    ),
    "begin that never counts as slow": Mutant("begin", "num(latency, 0) >= 2000", "false"),
    "settle that keeps a place": Mutant(
        "settle",
        "  redis.call('ZREM', K.places, id)\nend",
        "end",
        seed=1,
    ),
    "settle that leaves a destination in the wrong ring": Mutant(
        "settle",
        (
            "  local gate, ring, other = gate_of(destination, window)\n"
            "  local place = math.max(gate, num(first[2], 0), now)"
        ),
        (
            "  local gate, other, ring = gate_of(destination, window)\n"
            "  local place = math.max(gate, num(first[2], 0), now)"
        ),
    ),
    "settle that leaves a destination in both rings": Mutant(
        "settle",
        (
            "redis.call('ZREM', other, destination)\n"
            "  redis.call('ZADD', ring, score(place), destination)"
        ),
        "redis.call('ZADD', ring, score(place), destination)",
    ),
    "settle that notes no open breaker": Mutant(
        "settle",
        "self:put('why', 'breaker')\n  self:note_hold(self.hold)\n",
        "self:put('why', 'breaker')\n",
    ),
    "pause that notes no hold": Mutant("pause", "\n  note_hold(destination)\n", "\n"),
    "note_holds that forgets nobody": Mutant(
        "note_holds", "redis.call('ZREM', K.held, name)", "", seed=3
    ),
    "note_holds that keeps to what is paused": Mutant(
        "note_holds", "if d.broken then return 'breaker' end", "", seed=11
    ),
    "enqueue that counts no refusal": Mutant(
        "enqueue", "if refused > 0 then count_refused('refused', refused) end", ""
    ),
    "release that keeps a place": Mutant(
        "release",
        "redis.call('ZREM', K.places, id)\nclear_record(id, 'token', 'woken_at', 'is_probe'",
        "clear_record(id, 'token', 'woken_at', 'is_probe'",
    ),
    "reclaim that keeps a place": Mutant(
        "reclaim",
        "  redis.call('ZREM', K.places, id)\nend",
        "end",
    ),
    "tick that believes a word for ever": Mutant("tick", "num(until_ms, 0) > now and", "", seed=5),
    "tick that counts its own places alone": Mutant(
        "tick", "0, {}, redis.call('HGETALL', K.workers)", "places, {}, {}", seed=17
    ),
    "tick that is always the first of its minute": Mutant(
        "tick", "math.floor(num(s.ticked, 0) / 60000) ~= math.floor(now / 60000)", "true"
    ),
    "sample that keeps none for the day": Mutant(
        "sample", "minute, of_minute, ten, of_ten)", "minute, of_minute)"
    ),
    "sample that keeps none for the hour": Mutant(
        "sample", "minute, of_minute, ten, of_ten)", "ten, of_ten)"
    ),
    "lock that two can hold": Mutant("lock", "lasts(K.lock, lock_ttl)", "false"),
    "unlock of another's lock": Mutant(
        "unlock", "redis.call('GET', K.lock) ~= owner .. ':' .. fence", "false"
    ),
    "begin without the token": Mutant("begin", "r.token ~= token or ", "", seed=1),
    "begin without the nonce": Mutant(
        "begin", "if phase == 'sending' and r.nonce ~= nonce then return {5} end", ""
    ),
    "begin past its life": Mutant(
        "begin",
        (
            "if num(redis.call('ZSCORE', K.expiry, id), 0) <= now and not is_held() then "
            "return {4} end"
        ),
        "",
        seed=1,
    ),
    "begin while paused": Mutant(
        "begin", "if s.paused or d.paused then return {2, now, 1} end", "", seed=2
    ),
    "begin without the limit of requests in flight": Mutant(
        "begin", "if full() then return {2, now, 3} end", ""
    ),
    "begin without the pace of all": Mutant(
        "begin", ", free_from(p, p.send, p.stagger, unused)", "", seed=1
    ),
    "begin without the pace of its destination": Mutant(
        "begin", "math.max(free, free_from(p, p.own_send, p.interval, unused))", "free", seed=3
    ),
    "begin again that passes over others' instants": Mutant(
        "begin", "at == unused + pace", "unused > 0"
    ),
    "expire that forgets the end of a request in flight": Mutant(
        "settle", "if r.ends_at then end_of_life(id, r.ends_at) end", "", seed=4
    ),
    "begin that does not tell of its instant": Mutant(
        "begin",
        ("redis.call('HSET', K.dests .. destination, 'send', at + interval)\n  "),
        "",
        seed=3,
    ),
    "begin to a broken destination": Mutant(
        "begin", "d.broken and not r.is_probe", "false", seed=2
    ),
    "settle without the token": Mutant("settle", "token ~= token or r.", "", seed=1),
    "settle without the attempt": Mutant("settle", "r.attempts ~= attempt or ", ""),
    "settle that counts its repeat": Mutant(
        "settle", "if r.phase ", ("if r.phase == 'sent' then count('sent', 1) end\nif r.phase ")
    ),
    "settle that does everything again": Mutant(
        "settle", "if r.phase ~= 'sending' then return {results[r.phase], -1, -1, 0} end", ""
    ),
    "settle that leaves its callback in PROCESSING": Mutant(
        "settle", ("processing, id)\n  redis.call('ZREM', K."), "", seed=1
    ),
    "settle that leaves its request in flight": Mutant(
        "settle", ("inflights .. destination, id)\n  redis.call('ZREM', K."), "", seed=1
    ),
    "settle that counts no retry": Mutant(
        "settle", "add_to_record(id, throttled and 'throttled' or 'retries', 1)", "", seed=1
    ),
    "settle that counts what is throttled as a retry": Mutant(
        "settle", "throttled and 'throttled' or 'retries'", "'retries'", seed=1
    ),
    "settle that forgets a cancel": Mutant(
        "settle", "outcome == 'retry' and r.is_cancelled", "false", seed=2
    ),
    "release without the token": Mutant("release", "r.token ~= token or ", "", seed=3),
    "release of what has begun": Mutant(
        "release", "(r.phase == 'claimed' or r.phase == 'retry')", "r.phase", seed=6
    ),
    "release that keeps the token": Mutant(
        "release", "clear_record(id, 'token', 'woken_at'", "clear_record(id, 'woken_at'"
    ),
    "reclaim before the lease has ended": Mutant(
        "reclaim",
        "stuck = redis.call('ZREVRANGEBYSCORE', K.processing, '(0', -now",
        "stuck = redis.call('ZREVRANGEBYSCORE', K.processing, '(0', -now - 1",
        seed=3,
    ),
    "reclaim of a claimed one before its time": Mutant(
        "reclaim",
        "local idle = redis.call('ZRANGEBYSCORE', K.processing, 0, now - claim_lease",
        "local idle = redis.call('ZRANGEBYSCORE', K.processing, 0, now - claim_lease + 1",
        seed=1,
    ),
    "reclaim that counts no crash": Mutant(
        "reclaim", "local crashes = num(r.crashes, 0) + 1", "local crashes = num(r.crashes, 0)"
    ),
    "reclaim that keeps the token": Mutant(
        "reclaim",
        "id, 'token', 'woken_at', 'nonce', 'begun_at', 'is_probe', 'is_counted'",
        "id, 'woken_at', 'nonce', 'begun_at', 'is_probe', 'is_counted'",
    ),
    "expire that leaves its callback in PROCESSING": Mutant(
        "expire", ("processing, id)\n  redis.call('ZREM', K."), "", seed=5
    ),
    "expire during a request": Mutant("expire", "r.phase == 'sending'", "false", seed=4),
    "wake again and again": Mutant("wake", "now - num(r.woken_at, 0) >= again", "true"),
    "cancel of a request that is not remembered": Mutant(
        "cancel", "set_record(id, 'is_cancelled', 1)", "", seed=2
    ),
    "cancel that leaves its callback in PROCESSING": Mutant(
        "cancel", ("processing, id)\n  redis.call('ZREM', K."), ""
    ),
    "cancel that leaves its callback in the lane": Mutant(
        "cancel",
        ("leave_lane(destination, id)\n  leave_processing("),
        "leave_processing(",
    ),
    "replay that leaves its callback dead": Mutant(
        "replay", "ZREM', K.dead, id) == 1", "ZSCORE', K.dead, id)"
    ),
    "replay with the old budget": Mutant(
        "replay",
        (
            "clear_record(\n      id, 'token', 'retries', 'crashes', 'throttled', 'unsigned', 're"
            "ason', 'ended_at', 'detail'\n    )"
        ),
        "",
    ),
    "cancel that says of its own repeat that it comes too late": Mutant(
        "cancel", "r.phase == 'cancelled' and 1 or ", ""
    ),
    "cancel of what is sent or dead that says it was in time": Mutant(
        "cancel", "r.phase == 'cancelled' and 1 or 0", "1", seed=5
    ),
    "cancel that keeps the token": Mutant("cancel", "clear_record(id, 'token')", ""),
    "cancel in the middle of a request": Mutant("cancel", "r.phase == 'sending'", "false", seed=2),
    "begin again of what was cancelled meanwhile": Mutant(
        "begin", "r.is_cancelled and now - at > missed", "false", seed=2
    ),
    "pause of one that leaves its place in the ring": Mutant(
        "pause", "redis.call('ZADD', K.ring, 'XX', '+inf', destination)", "", seed=3
    ),
    "pause of one that is forgotten after a day": Mutant(
        "pause", "redis.call('PERSIST', K.dests .. destination)", "", seed=5
    ),
    "pause that counts what is claimed as in flight": Mutant("pause", "-now", "'+inf'", seed=1),
    "resume that does not call its destination back": Mutant(
        "resume",
        (
            "to_ring(destination, window)\n"
            "return Answer.keep(nonce, answer_ttl, math.min(1, changed))"
        ),
        ("\nreturn Answer.keep(nonce, answer_ttl, math.min(1, changed))"),
        seed=2,
    ),
    "resume that leaves the breaker open": Mutant(
        "resume", ", 'hold', 'why', 'broken'", "", seed=0
    ),
    "resume that forgets its answer": Mutant(
        "resume", "if before then return before end", "", seed=2
    ),
    "forgive that forgets its answer": Mutant(
        "forgive", "if before then return before end", "", seed=3
    ),
    "replay that forgets its answer": Mutant("replay", "if before then return before end", ""),
    "replay without a new life": Mutant(
        "replay", ("redis.call('ZADD', K.expiry, now + max_age, id)\n    "), ""
    ),
    "replay past a pause": Mutant(
        "replay",
        "to_lane(read_record(id, 'destination').destination, id, now, window",
        (
            "local d = read_record(id, 'destination').destination\n"
            "redis.call('ZADD', K.lanes .. d, now, id)\n"
            "redis.call('ZADD', K.ring, now, d"
        ),
    ),
    "replay that counts what it was given": Mutant(
        "replay",
        "if replayed > 0 then count('replayed', replayed",
        "if replayed > 0 then count('replayed', #ARGV - 4",
        seed=2,
    ),
    "purge of what is not dead": Mutant("purge", "ZREM', K.dead,", "EXISTS', K.recs ..", seed=5),
    "purge that leaves the request": Mutant("purge", ", K.cbs .. id", "", seed=5),
    "purge that forgets its answer": Mutant(
        "purge", "if before then return before end", "", seed=3
    ),
    "trim of what is not old": Mutant("trim", " - ttl", "", seed=1),
    "told that moves back": Mutant(
        "notified",
        (
            "ms: from `deaths`\n"
            "-- Returns 1.\n"
            "-- Twice: it never moves back.\n"
            "-- Cost: O(1).\n"
            "local before = num(redis.call('HGET', K.state, 'told'), 0)\n"
            "redis.call('HDEL', K.state, 'told')  -- a removal first: a full Redis lets t"
            "he rest pass\n"
            "redis.call('HSET', K.state, 'told', math.max(before, told_until)"
        ),
        (
            "text: ms, from `deaths`\n"
            "-- Returns 1.\n"
            "-- Twice: it never moves back.\n"
            "-- Cost: O(1).\n"
            "local before = num(redis.call('HGET', K.state, 'told'), 0)\n"
            "redis.call('HDEL', K.state, 'told')  -- a removal first: a full Redis lets t"
            "he rest pass\n"
            "redis.call('HSET', K.state, 'told', told_until"
        ),
        seed=4,
    ),
}

#: Of verbs that the machine does not call: their scenarios in `test_verbs` have to notice.
DIRECT: Final = {
    "bid that counts old words": Mutant("bid", "at <= now - bid_for or at > now", "at > now"),
    "bid that counts words of a time to come": Mutant(
        "bid", "at <= now - bid_for or at > now", "at <= now - bid_for"
    ),
    "bid that makes good what was not wanted": Mutant(
        "bid", "not before or before.want == 0", "false"
    ),
    "bid that makes good what was not wanted for a while": Mutant(
        "bid", "not before or before.want == 0", "not before"
    ),
    "bid that takes arrears from who wanted": Mutant(
        "bid", "not before or before.want == 0", "true"
    ),
    "bid that forgets what was granted": Mutant("bid", "newest > had", "true"),
    "grant to who has said nothing": Mutant(
        "grant",
        "if not own then return {0, 0, 50} end",
        "own = own or {at = now, want = 9, demand = ''}",
    ),
    "grant that shares with who wants nothing": Mutant("grant", "bid.want > 0", "bid.want >= 0"),
    "grant up to the horizon although others wait": Mutant(
        "grant", "(others > 0 and window or horizon)", "horizon"
    ),
    "grant up to a window although nobody waits": Mutant(
        "grant", "(others > 0 and window or horizon)", "window"
    ),
    "grant of more than is wanted": Mutant(
        "grant",
        "math.min(own.want, math.floor((limit - slot) / pace) + 1)",
        "math.floor((limit - slot) / pace) + 1",
    ),
    "grant of all to the first": Mutant("grant", "if others > 0 then", "if false then"),
    "grant that lets one get ahead": Mutant("grant", "math.min(behind, had) + part - had", "part"),
    "grant of nothing after the clock was set back": Mutant(
        "grant", "reserved(s.slot, horizons)", "num(s.slot, 0)"
    ),
    "grant before the gate": Mutant("grant", "reserved(s.send, horizons)", "0"),
    "grant that forgets what the last one had": Mutant("grant", "'v', had", "'v', 0"),
    "grant that is still wanted": Mutant("grant", "own.want - slots .. ' '", "own.want .. ' '"),
    "hand_back of what is followed by others' slots": Mutant("hand_back", "till ~= slot", "false"),
    "hand_back that keeps them counted": Mutant("hand_back", "had - unused", "had"),
    "hand_back that keeps their time": Mutant("hand_back", "slot - unused * pace", "slot"),
    "reserve of an id that is queued here": Mutant("reserve", "K.cbs .. id, K.recs", "K.recs"),
    "reserve of an id that has ended here": Mutant(
        "reserve", "K.cbs .. id, K.recs .. id", "K.cbs .. id"
    ),
    "reserve of another shard's id": Mutant("reserve", "at and at ~= shard", "false"),
    "reserve that counts no duplicate": Mutant("reserve", "known > 0", "false"),
    "reserve that renews no time": Mutant(
        "reserve",
        "redis.call('SET', K.ats .. id, shard .. ' ' .. now)",
        "redis.call('SET', K.ats .. id, shard .. ' ' .. now, 'NX')",
    ),
    "transfer of a young reservation": Mutant(
        "transfer", "at ~= before or since > now - age", "at ~= before"
    ),
    "transfer of another shard's": Mutant(
        "transfer", "at ~= before or since > now - age", "since > now - age"
    ),
    "transfer of what is reserved alone": Mutant(
        "transfer", "if at and (at ~= before or", "if not at or (at ~= before or"
    ),
    "unreserve of another shard's": Mutant("unreserve", "at == shard and", "at and"),
    "unreserve of a young reservation": Mutant("unreserve", "since <= now - age", "true"),
    "agree that lets each decide": Mutant("agree", "if kept then return kept end", ""),
    "agree that takes an older release's data apart": Mutant(
        "agree", "redis.call('EXISTS', K.counters) == 1", "false"
    ),
    "agree that decides without being told": Mutant(
        "agree", "if not keep then return shards end", ""
    ),
    "want from who is paused": Mutant(
        "want",
        "redis.call('ZRANGEBYSCORE', ring, '-inf', now,",
        "redis.call('ZRANGEBYSCORE', ring, '-inf', '+inf',",
    ),
    "want of all that waits for one that has not answered": Mutant(
        "want", "if not alone then", "if true then"
    ),
    "want of more than an interval allows": Mutant(
        "want", "pace > 0 and 1 + math.floor(horizon / pace) or batch_size", "batch_size"
    ),
    "want by the interval as set": Mutant(
        "want",
        "pace_of(redis.call('HGET', K.dests .. name, 'interval'), interval, adaptive)",
        "interval",
    ),
    "want of what is not due": Mutant("want", "'-inf', now + window", "'-inf', '+inf'"),
    "want beyond the places": Mutant("want", "math.min(batch_size, unproven_room())", "batch_size"),
    "want of more than a batch": Mutant(
        "want", "return math.min(wanted, batch_size)", "return wanted"
    ),
    "load that counts places not taken yet": Mutant(
        "load",
        "redis.call('ZCOUNT', K.places, '-inf', now)\nlocal ready",
        "redis.call('ZCARD', K.places)\nlocal ready",
    ),
    "load that counts who is paused": Mutant(
        "load", "redis.call('ZCOUNT', K.unproven, '-inf', now)", "redis.call('ZCARD', K.unproven)"
    ),
    "load without what is processed": Mutant("load", "redis.call('ZCARD', K.processing)", "0"),
    "load without what is ready": Mutant("load", "+ ready + waiting", "+ waiting"),
    "take of nothing after the clock was set back": Mutant(
        "take", "reserved(s.send, max_wait + longest)", "num(s.send, 0)"
    ),
    "take before its time": Mutant("take", "now + wait", "now"),
    "take however far ahead": Mutant("take", "at - now > max_wait and not must", "false"),
    "take that does not take what it must": Mutant(
        "take", "at - now > max_wait and not must", "at - now > max_wait"
    ),
    "take by the stagger as set": Mutant("take", "pace_of(s.stagger, pace, adapts)", "pace"),
    "take by the stagger as adapted, which is not asked for": Mutant(
        "take", "pace_of(s.stagger, pace, adapts)", "pace_of(s.stagger, pace, true)"
    ),
    "take of the same instant twice": Mutant("take", "at + pace", "at"),
    "turn that everybody has": Mutant("turn", "lasts(K.turns .. what, every)", "false"),
    "turn of one thing at a time": Mutant(
        "turn", "lasts(K.turns .. what, every)", "lasts(K.turns .. 'x', every)"
    ),
    "turn that lasts too long after the clock was set back": Mutant(
        "turn", "left >= 0 and left <= ttl", "left >= 0"
    ),
}
