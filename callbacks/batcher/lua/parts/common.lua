-- What all verbs share; the loader puts this text before each of them.
-- K is a verb's table of keys. A function needs the entries that it names.

-- The server's clock, ms since 1970: the only clock that decides anything.
local function now_ms()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

-- Whether a key that was given `ttl` ms at most is there. One with more left is not: Redis' clock
-- has been set back, and would keep it for as long.
local function lasts(key, ttl)
  local left = redis.call('PTTL', key)
  return left >= 0 and left <= ttl
end

local function num(value, default)
  return value and tonumber(value) or default
end

-- Count a transition: for good, and in the bucket of its 10 s.
local function count(K, field, n, now)
  redis.call('HINCRBY', K.counters, field, n)
  local bucket = K.rates .. math.floor(now / 10000)
  if redis.call('HINCRBY', bucket, field, n) == n then redis.call('PEXPIRE', bucket, 900000) end
end

-- A command with as many arguments as Lua can hand over at once, until all are through.
local function in_steps(command, key, arguments)
  for i = 1, #arguments, 4000 do
    redis.call(command, key, unpack(arguments, i, math.min(i + 3999, #arguments)))
  end
end

-- What is stored in microseconds, as the whole milliseconds that slots count in.
local function us_to_ms(us)
  return math.ceil(us / 1000)
end

-- A reserved time, 0 where there is none. One further ahead than `most` ms was made before Redis'
-- clock was set back.
local function reserved(at, now, most)
  at = num(at, 0)
  return at <= now + most and at or 0
end

-- Whether nothing ends for its age: Redis' clock has jumped ahead within the hour (see hold).
local function is_held(K, now)
  return reserved(redis.call('HGET', K.state, 'held'), now, 3600000) > now
end

-- The same where it is later than the caller knows that it can be: it has jumped just now.
-- `latest` -1: the caller does not know.
local function age_is_unsure(K, now, latest)
  return latest >= 0 and now > latest or is_held(K, now)
end

-- Keep what is known of a destination for a day after its last use, and its hold for as long as
-- it lasts. One that is paused has no end, and its caller leaves it so.
local function keep_dest(dest, hold, now)
  redis.call('PEXPIRE', dest, 86400000 + math.max(0, hold - now))
end

-- Have the next trigger sent at `at`, or say -1: one that comes by then is on its way (until
-- 200 ms past its time, for it may wait for a thread), or it is further ahead than `look_ahead`,
-- where the ticker finds it.
local function arm_trigger(K, at, now, look_ahead)
  local s = redis.call('HMGET', K.state, 'next_batch', 'paused', 'earliest')
  local armed = num(s[1], 0)
  at = math.max(at, reserved(s[3], now, look_ahead))
  if s[2] or at > now + look_ahead or (armed > now - 200 and armed <= at) then return -1 end
  redis.call('HDEL', K.state, 'next_batch')  -- a removal first: a full Redis lets the rest pass
  redis.call('HSET', K.state, 'next_batch', at)
  return math.max(0, at - now)
end

-- A pace in ms, stagger or interval: as set, or where it adapts, as it was stored last.
local function pace_of(stored_us, set, adaptive)
  if set > 0 and adaptive and stored_us then return us_to_ms(num(stored_us, set * 1000)) end
  return set
end

-- Count what is refused, where there is memory for it: refusing has to work without.
local function count_refused(K, field, n, now)
  if type(redis.pcall('HINCRBY', K.counters, field, 0)) == 'number' then count(K, field, n, now) end
end

local function count_stale(K, now)
  count_refused(K, 'stale', 1, now)
end

-- The mark of a destination's host, `<host>#*`, a name that no lane has; nothing for a host itself.
local function host_mark(K, destination)
  local at = string.find(destination, '[/#]', 9)  -- past the scheme
  return at and K.dests .. string.sub(destination, 1, at - 1) .. '#*'
end

-- Whether the host of a lane is paused with all its lanes, known or not, and this one was not
-- resumed by itself since.
local function host_paused(K, destination)
  local mark = host_mark(K, destination)
  if not mark then return false end
  local m = redis.call('HMGET', mark, 'paused', destination)
  return m[1] and not m[2]
end

-- Whether a destination has not answered lately: it has had no 2xx since its last timeout, or
-- its breaker is open. `ok` and `broken` are its fields.
local function is_unproven(ok, broken)
  return not ok or broken
end

-- When a destination may next be claimed from, whatever waits there, or `inf` while paused; the
-- ring that it belongs to, and the other one.
local function gate_of(K, destination, window)
  local d = redis.call('HMGET', K.dests .. destination, 'paused', 'slot', 'send', 'hold', 'ok', 'broken')
  local gate = (d[1] or host_paused(K, destination)) and math.huge
    or math.max(num(d[2], 0) - window, num(d[3], 0) - window, num(d[4], 0))
  if is_unproven(d[5], d[6]) then return gate, K.unproven, K.ring end
  return gate, K.ring, K.unproven
end

-- A score as Redis reads it.
local function score(at)
  return at == math.huge and '+inf' or at
end

-- Whether answers take so long that each request counts as overdue: many such destinations would
-- else hold all places, each in its own good time.
local function is_slow(latency)
  return num(latency, 0) >= 2000
end

-- Whether a destination that has answered lately hangs just now or is slow, and many like it: its
-- oldest request in flight is overdue, and such requests hold places beyond those for the others. A
-- slow answer now and then costs nobody anything.
local function is_stalled(K, destination, now, latency)
  if not is_slow(latency) then
    local oldest = redis.call('ZRANGE', K.inflights .. destination, 0, 0)[1]
    if not oldest or num(redis.call('ZSCORE', K.places, oldest), math.huge) > now then return false end
  end
  local most = redis.call('HGET', K.state, 'unproven_most')
  return most and redis.call('ZCOUNT', K.places, '-inf', now) > 1.25 * most
end

-- From when on a request to a destination that has answered lately is overdue.
local function overdue_from(at, latency)
  return is_slow(latency) and at + 1 or at + math.max(1000, 3 * num(latency, 0))
end

-- How many more callbacks may be claimed for destinations that have not answered lately or hang:
-- these share a part of all places (threads or greenlets of all workers), which the ticker knows.
local function unproven_room(K, now)
  local most = redis.call('HGET', K.state, 'unproven_most')
  if not most then return math.huge end
  return math.max(0, most - redis.call('ZCOUNT', K.places, '-inf', now))
end

-- Put a destination into the ring for what is due then. One that waits there already only moves
-- forward, so that one with many arrivals does not overtake the others.
local function join_ring(K, destination, due, window)
  local gate, ring, other = gate_of(K, destination, window)
  redis.call('ZREM', other, destination)
  redis.call('ZADD', ring, 'LT', score(math.max(gate, due)), destination)
end

local function to_lane(K, destination, id, due, window)
  redis.call('ZADD', K.lanes .. destination, due, id)
  join_ring(K, destination, due, window)
end

-- Give a destination its place in its ring anew, not before `now` (the tail of those ready).
-- Returns that place, `inf` while it is paused or has nothing waiting.
local function to_ring(K, destination, window, now)
  local first = redis.call('ZRANGE', K.lanes .. destination, 0, 0, 'WITHSCORES')
  if not first[1] then
    redis.call('ZREM', K.ring, destination)
    redis.call('ZREM', K.unproven, destination)
    return math.huge
  end
  local gate, ring, other = gate_of(K, destination, window)
  local place = math.max(gate, num(first[2], 0), now)
  redis.call('ZREM', other, destination)
  redis.call('ZADD', ring, score(place), destination)
  return place
end

-- When the first destination of those that have not answered lately may be claimed from.
local function first_unproven(K)
  return num(redis.call('ZRANGE', K.unproven, 0, 0, 'WITHSCORES')[2], math.huge)
end

-- Whoever a destination was held for is not sent: what waits there need not wait for it. `probe`: it
-- was to try a broken destination.
local function end_own_hold(K, destination, probe)
  local dest = K.dests .. destination
  local why = redis.call('HGET', dest, 'why')
  if why == 'full' or (probe and why == 'breaker') then redis.call('HDEL', dest, 'hold', 'why') end
end

local function leave_lane(K, destination, id)
  local was = redis.call('ZREM', K.lanes .. destination, id)
  if redis.call('EXISTS', K.lanes .. destination) == 0 then
    redis.call('ZREM', K.ring, destination)
    redis.call('ZREM', K.unproven, destination)
  end
  return was
end

-- A history with one more entry; of a very long one (many replays) the oldest go.
local function with_entry(history, entry)
  if not history or history == '' then return entry end
  if #history > 6000 then
    history = string.sub(history, string.find(history, '],', 2000, true) + 2)
  end
  return history .. ',' .. entry
end

-- Where a callback belongs: its record knows, or else the first line of its request.
local function destination_of(K, id, known)
  if known then return known end
  return string.match(redis.call('GETRANGE', K.cbs .. id, 0, 2999), '^([^\n]*)\n')
end

-- Give a callback back its end of life, which was put off while its request was in flight.
local function end_of_life(K, id, at)
  redis.call('ZADD', K.expiry, at, id)
  redis.call('HDEL', K.recs .. id, 'end')
end

-- End a callback as `state` (sent, dead or cancelled). Begins with removals, which a full
-- Redis allows, so that what frees memory works when there is none.
local function finish(K, id, destination, state, reason, now)
  redis.call('ZREM', K.processing, id)
  redis.call('ZREM', K.expiry, id)
  redis.call('ZREM', K.inflights .. destination, id)
  redis.call('ZREM', K.places, id)
  if state == 'dead' then
    redis.call('ZADD', K.dead, now, id)
  else
    redis.call('DEL', K.cbs .. id)
    redis.call('ZADD', K.sent, now, id)
  end
  redis.call('HDEL', K.recs .. id, 'due', 'at', 'bn', 'w', 'x', 'p', 'u', 'ns', 'end')
  redis.call('HSET', K.recs .. id, 's', state, 'd', destination, 'o', reason, 'f', now)
  count(K, state, 1, now)
end

-- How many callbacks are ready (due, their ring allows their lane now, and there are places for
-- those of unproven destinations), counted up to `limit`, and when the oldest of them was due.
local function ready_of(K, now, limit)
  local ready, oldest = 0, -1
  local function count_in(ring, destinations)
    if ready >= limit or destinations <= 0 then return end
    for _, destination in ipairs(redis.call('ZRANGEBYSCORE', ring, '-inf', now, 'LIMIT', 0, destinations)) do
      local lane = K.lanes .. destination
      local due = num(redis.call('ZRANGE', lane, 0, 0, 'WITHSCORES')[2], now + 1)
      if due <= now then
        if oldest < 0 or due < oldest then oldest = due end
        ready = ready + redis.call('ZCOUNT', lane, '-inf', now)
        if ready >= limit then return end
      end
    end
  end
  count_in(K.ring, limit)
  count_in(K.unproven, math.min(limit, unproven_room(K, now)))
  return math.min(ready, limit), oldest
end

