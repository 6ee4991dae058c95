-- Bring destinations forward whose next slot was made with a longer interval than there is now.
--
-- KEYS[1] ring          destinations with something waiting
-- KEYS[2] dest:         destinations' own state
-- KEYS[3] lane:         lanes
-- KEYS[4] unproven      destinations with something waiting that have not answered lately
-- ARGV[1] offset        how many to pass over, which earlier calls have left where they were
-- ARGV[2] limit         most destinations that are read
-- ARGV[3] interval      ms, the longest interval of a destination that there can be
-- ARGV[4] horizon       ms that a slot may lie ahead beyond that
-- ARGV[5] window        ms ahead of its next slot that a destination is claimed from
-- ARGV[6] unproven      1: of those that have not answered lately, 0: of the others
-- Returns {read, moved}: how many of those furthest back in the ring were read, and brought forward.
-- Twice: the second finds the others.
-- Cost: O(limit * log n).
local K = {ring = KEYS[1], dests = KEYS[2], lanes = KEYS[3], unproven = KEYS[4]}
local offset, limit, interval = num(ARGV[1]), num(ARGV[2]), num(ARGV[3])
local horizon, window = num(ARGV[4]), num(ARGV[5])
local now, moved = now_ms(), 0
local furthest = now + interval + horizon
redis.call('ZREM', K.ring, '')  -- a removal first: a full Redis lets the rest pass
local ring = ARGV[6] == '1' and K.unproven or K.ring
local names = redis.call('ZRANGEBYSCORE', ring, furthest - window, '(+inf', 'LIMIT', offset, limit)
for _, name in ipairs(names) do
  local d, far = redis.call('HMGET', K.dests .. name, 'slot', 'send'), false
  for i, field in ipairs({'slot', 'send'}) do
    if num(d[i], 0) > furthest then
      far = true
      redis.call('HSET', K.dests .. name, field, now + interval)
    end
  end
  if far and to_ring(K, name, window, now) < furthest - window then moved = moved + 1 end
end
return {#names, moved}
