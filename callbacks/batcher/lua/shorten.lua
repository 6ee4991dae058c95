-- Bring destinations forward whose next slot was made with a longer interval than there is now.
--
-- @keys ring dest: lane: unproven
-- @arg offset number: how many to pass over, which earlier calls have left where they were
-- @arg limit number: most destinations that are read
-- @arg longest_interval ms: the longest interval of a destination that there can be
-- @arg horizon ms: that a slot may lie ahead beyond that
-- @arg window ms: ahead of its next slot that a destination is claimed from
-- @arg unproven flag: of those that have not answered lately, else of the others
-- Returns {read, moved}: how many of those furthest back in the ring were read, and brought forward.
-- Twice: the second finds the others.
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
