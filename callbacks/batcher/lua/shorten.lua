-- Move destinations forward whose next slot was made with an interval longer than now possible.
--
-- @keys ring dest: lane: unproven
-- @arg offset number: how many to skip, which earlier calls have left in place
-- @arg limit number: most destinations that are read
-- @arg longest_interval ms: the longest possible interval of a destination
-- @arg horizon ms: how far beyond that a slot may lie ahead
-- @arg window ms: how long before its next slot a destination is claimed from
-- @arg unproven flag: look at the unproven ring, else at the proven one
-- Returns {read, moved}: how many of those furthest back in the ring were read, and moved forward.
-- Twice: the second finds only those left.
-- Cost: O(limit * log n).
local moved = 0
local furthest = now + longest_interval + horizon
redis.call('ZREM', K.ring, '')  -- a removal first: a full Redis lets the rest pass
local ring = unproven and K.unproven or K.ring
local names = redis.call('ZRANGEBYSCORE', ring, furthest - window, '(+inf', 'LIMIT', offset, limit)
for _, name in ipairs(names) do
  local d, far = redis.call('HMGET', K.dests .. name, 'slot', 'send'), false
  for i, field in ipairs({'slot', 'send'}) do
    if num(d[i], 0) > furthest then
      far = true
      redis.call('HSET', K.dests .. name, field, now + longest_interval)
    end
  end
  if far and to_ring(name, window) < furthest - window then moved = moved + 1 end
end
return {#names, moved}
