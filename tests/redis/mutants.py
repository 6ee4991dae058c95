"""Defects, one in each: the machine has to notice every one of them.

A seed makes that quick. It no longer does where rules or scripts have changed: then others are
tried, which takes seconds, and a new one is worth looking for.
"""

from __future__ import annotations

from typing import Final

from tests.redis.bench import Mutant

MUTANTS: Final = {
    "enqueue without the check for known ids": Mutant(
        "enqueue",
        "if redis.call('EXISTS', K.cbs .. id, K.recs .. id) > 0 then",
        "if false then",
        seed=1,
    ),
    "enqueue that does not say when its callback expires": Mutant(
        "enqueue", "in_steps('ZADD', K.expiry, ends)", ""
    ),
    "claim without the lock": Mutant(
        "claim",
        "if redis.call('GET', K.lock) ~= ARGV[1] .. ':' .. ARGV[2] then",
        "if false then",
        seed=3,
    ),
    "claim that leaves its callbacks in the lane": Mutant(
        "claim",
        "    redis.call('ZREMRANGEBYRANK', K.lanes .. self.name, 0, self.taken - 1)\n",
        "",
    ),
    "claim that takes one too many out of the lane": Mutant(
        "claim", "self.name, 0, self.taken - 1)", "self.name, 0, self.taken)"
    ),
    "claim that forgets whoever has nothing due yet": Mutant(
        "claim", "self.exhausted and not waits and not self.later", "not waits"
    ),
    "claim that forgets its last answer": Mutant(
        "claim", "if before and string.sub(before, 1, #nonce) == nonce then", "if false then"
    ),
    "claim before its time": Mutant(
        "claim",
        "if first_step and now < last + min_interval and now >= last then",
        "if false then",
        seed=3,
    ),
    "claim while paused": Mutant("claim", "if s[1] then return {0, now, -1} end", "", seed=3),
    "claim that gives all the same slot": Mutant(
        "claim", "        slot = slot + stagger\n", "        slot = slot + 0\n"
    ),
    "claim from what is not due": Mutant(
        "claim", "      if due > c.now then\n", "      if false then\n", seed=3
    ),
    "claim that holds a destination for days": Mutant(
        "claim", "self.hold = now + held", "self.hold = now + 10000 * held", seed=9
    ),
    "claim that puts who has not answered lately among the others": Mutant(
        "claim", "turn.ring = turn.unproven and K.unproven or K.ring", "turn.ring = K.ring"
    ),
    "claim from those that have not answered lately beyond their places": Mutant(
        "claim",
        "return math.max(0, most - redis.call('ZCOUNT'",
        "return math.max(9, most - redis.call('ZCOUNT'",
        seed=2,
    ),
    "claim that takes no place": Mutant("claim", "in_steps('ZADD', K.places, places)\n", ""),
    "begin without a place": Mutant(
        "begin", "if needs_place and not has_place then return {2, now, 6} end", "", seed=17
    ),
    "begin that never counts as overdue": Mutant(
        "begin", "needs_place and now or overdue_from(at, d[7])", "now"
    ),
    "begin that never counts as slow": Mutant(
        "begin", "return num(latency, 0) >= 2000", "return false"
    ),
    "settle that keeps a place": Mutant(
        "settle",
        "\nredis.call('ZREM', K.places, id)\nif r[9]",
        "\nif r[9]",
        seed=1,
    ),
    "settle that leaves a destination in the wrong ring": Mutant(
        "settle",
        "  local gate, ring, other = gate_of(K, destination, window)\n  local place",
        "  local gate, other, ring = gate_of(K, destination, window)\n  local place",
    ),
    "settle that leaves a destination in both rings": Mutant(
        "settle",
        "  redis.call('ZREM', other, destination)\n  redis.call('ZADD', ring, score(place)",
        "  redis.call('ZADD', ring, score(place)",
    ),
    "release that keeps a place": Mutant(
        "release",
        "redis.call('ZREM', K.places, id)\nredis.call('HDEL', K.recs .. id, 't', 'w', 'p')",
        "redis.call('HDEL', K.recs .. id, 't', 'w', 'p')",
    ),
    "reclaim that keeps a place": Mutant(
        "reclaim", "  redis.call('ZREM', K.places, id)\n  local r", "  local r"
    ),
    "tick that believes a word for ever": Mutant("tick", "num(until_ms, 0) > now and", "", seed=5),
    "tick that counts its own places alone": Mutant(
        "tick",
        "local sum, words = 0, redis.call('HGETALL', K.workers)",
        "local sum, words = places, {}",
        seed=17,
    ),
    "lock that two can hold": Mutant("lock", "if lasts(K.lock, ttl) then", "if false then"),
    "unlock of another's lock": Mutant(
        "unlock", "if redis.call('GET', K.lock) ~= ARGV[1] .. ':' .. ARGV[2] then", "if false then"
    ),
    "begin without the token": Mutant(
        "begin", "if r[1] ~= token or not (phase == 'claimed'", "if not (phase == 'claimed'", seed=6
    ),
    "begin without the nonce": Mutant(
        "begin", "if phase == 'sending' and r[9] ~= nonce then return {5} end", ""
    ),
    "begin past its life": Mutant(
        "begin",
        "if num(redis.call('ZSCORE', K.expiry, id), 0) <= now and not is_held(K, now)"
        " then return {4} end",
        "",
        seed=1,
    ),
    "begin while paused": Mutant(
        "begin", "if s[1] or d[1] then return {2, now, 1} end", "", seed=2
    ),
    "begin without the limit of requests in flight": Mutant(
        "begin", "if full() then return {2, now, 3} end", ""
    ),
    "begin without the pace of all": Mutant(
        "begin",
        "math.max(p.now, p.due, free_from(p, p.send, p.stagger, unused))",
        "math.max(p.now, p.due)",
        seed=1,
    ),
    "begin without the pace of its destination": Mutant(
        "begin", "math.max(free, free_from(p, p.own_send, p.interval, unused))", "free", seed=3
    ),
    "begin again that passes over others' instants": Mutant(
        "begin", "at == unused + pace and unused or at", "unused > 0 and unused or at"
    ),
    "expire that forgets the end of a request in flight": Mutant(
        "settle", "if r[10] then end_of_life(K, id, r[10]) end", "", seed=4
    ),
    "begin that does not tell of its instant": Mutant(
        "begin", "  redis.call('HSET', K.dests .. destination, 'send', at + interval)\n", "", seed=3
    ),
    "begin to a broken destination": Mutant(
        "begin", "if d[6] and not r[11] then", "if false then", seed=3
    ),
    "settle without the token": Mutant(
        "settle", "if r[1] ~= token or r[2] ~= attempt or", "if r[2] ~= attempt or", seed=6
    ),
    "settle without the attempt": Mutant(
        "settle", "if r[1] ~= token or r[2] ~= attempt or", "if r[1] ~= token or"
    ),
    "settle that counts its repeat": Mutant(
        "settle",
        "if r[3] ~= 'sending' then return",
        "if r[3] == 'sent' then count(K, 'sent', 1, now) end\nif r[3] ~= 'sending' then return",
    ),
    "settle that does everything again": Mutant(
        "settle", "if r[3] ~= 'sending' then return {results[r[3]], -1, -1, 0} end", ""
    ),
    "settle that leaves its callback in PROCESSING": Mutant(
        "settle", "\n\nredis.call('ZREM', K.processing, id)\n", "\n\n", seed=1
    ),
    "settle that leaves its request in flight": Mutant(
        "settle",
        "redis.call('ZREM', K.inflights .. destination, id)\nredis.call('ZREM', K.places, id)\nif",
        "redis.call('ZREM', K.places, id)\nif",
        seed=1,
    ),
    "settle that counts no retry": Mutant(
        "settle", "  redis.call('HINCRBY', rec, throttled and 'th' or 'r', 1)\n", "", seed=1
    ),
    "settle that counts what is throttled as a retry": Mutant(
        "settle", "throttled and 'th' or 'r', 1)", "'r', 1)", seed=1
    ),
    "settle that forgets a cancel": Mutant(
        "settle", "if outcome == 'retry' and r[5] then", "if false then", seed=2
    ),
    "release without the token": Mutant("release", "if r[1] ~= token or not", "if not", seed=3),
    "release of what has begun": Mutant(
        "release", "not (r[2] == 'claimed' or r[2] == 'retry')", "not r[2]", seed=6
    ),
    "release that keeps the token": Mutant(
        "release", "redis.call('HDEL', K.recs .. id, 't', 'w', 'p')", ""
    ),
    "reclaim before the lease has ended": Mutant(
        "reclaim", "'(0', -now, 'LIMIT'", "'(0', -now - 1, 'LIMIT'", seed=6
    ),
    "reclaim of a claimed one before its time": Mutant(
        "reclaim", "now - lease, 'LIMIT'", "now - lease + 1, 'LIMIT'", seed=1
    ),
    "reclaim that counts no crash": Mutant(
        "reclaim", "local crashes = num(r[4], 0) + 1", "local crashes = num(r[4], 0)"
    ),
    "reclaim that keeps the token": Mutant(
        "reclaim", "redis.call('HDEL', K.recs .. id, 't', 'w', 'bn', 'at', 'p', 'u')", ""
    ),
    "expire that leaves its callback in PROCESSING": Mutant(
        "expire", "  redis.call('ZREM', K.processing, id)\n", "", seed=5
    ),
    "expire during a request": Mutant(
        "expire", "if r[1] == 'sending' then", "if false then", seed=4
    ),
    "wake again and again": Mutant("wake", "now - num(r[3], 0) >= again", "true"),
    "cancel of a request that is not remembered": Mutant(
        "cancel", "redis.call('HSET', K.recs .. id, 'x', 1)", "", seed=2
    ),
    "cancel that leaves its callback in PROCESSING": Mutant(
        "cancel", "  redis.call('ZREM', K.processing, id)\n", ""
    ),
    "cancel that leaves its callback in the lane": Mutant(
        "cancel", "\nleave_lane(K, destination, id)\n", "\n"
    ),
    "replay that leaves its callback dead": Mutant(
        "replay", "redis.call('ZREM', K.dead, id) == 1", "redis.call('ZSCORE', K.dead, id)"
    ),
    "replay with the old budget": Mutant(
        "replay", "redis.call('HDEL', rec, 't', 'r', 'c', 'th', 'ns', 'o', 'f', 'e')", ""
    ),
    "cancel that says of its own repeat that it comes too late": Mutant(
        "cancel", "return r[1] == 'cancelled' and 1 or 0", "return 0"
    ),
    "cancel of what is sent or dead that says it was in time": Mutant(
        "cancel", "return r[1] == 'cancelled' and 1 or 0", "return 1", seed=5
    ),
    "cancel that keeps the token": Mutant("cancel", "redis.call('HDEL', K.recs .. id, 't')", ""),
    "cancel in the middle of a request": Mutant(
        "cancel", "if r[1] == 'sending' then", "if false then", seed=2
    ),
    "begin again of what was cancelled meanwhile": Mutant(
        "begin", "if r[14] and now - at > late then", "if false then", seed=2
    ),
    "pause of one that leaves its place in the ring": Mutant(
        "pause", "redis.call('ZADD', ring, 'XX', '+inf', name)", "", seed=3
    ),
    "pause of one that is forgotten after a day": Mutant(
        "pause", "redis.call('PERSIST', dests .. name)", "", seed=5
    ),
    "pause that counts what is claimed as in flight": Mutant(
        "pause", "processing, '-inf', -now", "processing, '-inf', '+inf'", seed=1
    ),
    "resume that does not call its destination back": Mutant(
        "resume", "to_ring(K, name, window, now_ms())", "", seed=2
    ),
    "resume that leaves the breaker open": Mutant(
        "resume", "'paused', 'hold', 'why', 'broken')", "'paused')", seed=4
    ),
    "resume that forgets its answer": Mutant(
        "resume", "if before then return before end", "", seed=2
    ),
    "forgive that forgets its answer": Mutant("forgive", "Answer.before(K, nonce) or", "", seed=3),
    "replay that forgets its answer": Mutant("replay", "if before then return before end", ""),
    "replay without a new life": Mutant(
        "replay", "    redis.call('ZADD', K.expiry, now + life, id)\n", ""
    ),
    "replay past a pause": Mutant(
        "replay",
        "to_lane(K, redis.call('HGET', rec, 'd'), id, now, window)",
        "local d = redis.call('HGET', rec, 'd')\n"
        "redis.call('ZADD', K.lanes .. d, now, id)\nredis.call('ZADD', K.ring, now, d)",
    ),
    "replay that counts what it was given": Mutant(
        "replay",
        "count(K, 'replayed', replayed, now)",
        "count(K, 'replayed', #ARGV - 4, now)",
        seed=2,
    ),
    "purge of what is not dead": Mutant(
        "purge",
        "if redis.call('ZREM', K.dead, id) == 1 then",
        "if redis.call('EXISTS', K.recs .. id) == 1 then",
        seed=5,
    ),
    "purge that leaves the request": Mutant(
        "purge",
        "redis.call('DEL', K.recs .. id, K.cbs .. id)",
        "redis.call('DEL', K.recs .. id)",
        seed=5,
    ),
    "purge that forgets its answer": Mutant(
        "purge", "if before then return before end", "", seed=3
    ),
    "trim of what is not old": Mutant(
        "trim", "'-inf', now - ttl, 'LIMIT'", "'-inf', now, 'LIMIT'", seed=1
    ),
    "told that moves back": Mutant("notified", "math.max(before, num(ARGV[1]))", "ARGV[1]", seed=4),
}
