-- Stop claims and begins: of all, of one destination, or of a host's lanes, known or not.
--
-- KEYS[1] state         the schedule
-- KEYS[2] dest:         destinations' own state
-- KEYS[3] ring          destinations with something waiting
-- KEYS[4] inflight:     requests in flight
-- KEYS[5] processing    PROCESSING
-- KEYS[6] destinations  all destinations by last use
-- KEYS[7] unproven      destinations with something waiting that have not answered lately
-- ARGV[1] destination   empty: all; `<host>#*`: every lane of that host; those that wait have to be
--   withdrawn from the ring, see `withdraw`
-- Returns how many requests are still in flight.
-- Twice: paused is paused.
-- Cost: O(log n).
local state, dests, ring, inflights = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local processing, destinations, unproven = KEYS[5], KEYS[6], KEYS[7]
local name = ARGV[1]
local now = now_ms()
redis.call('ZREM', processing, '')  -- a removal first: a full Redis lets the rest pass
if name ~= '' then
  if string.sub(name, -2) == '#*' then redis.call('DEL', dests .. name) end  -- lanes resumed since
  redis.call('HSET', dests .. name, 'paused', now)
  redis.call('PERSIST', dests .. name)
  redis.call('ZADD', destinations, now, name)
  redis.call('ZADD', ring, 'XX', '+inf', name)
  redis.call('ZADD', unproven, 'XX', '+inf', name)
  return redis.call('ZCOUNT', inflights .. name, now, '+inf')
end
redis.call('HSET', state, 'paused', now)
return redis.call('ZCOUNT', processing, '-inf', -now)
