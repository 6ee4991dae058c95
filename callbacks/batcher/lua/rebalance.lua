-- Count what is missing from the totals as `lost`, or what is too much as `found`: then they balance.
--
-- @keys expiry processing counters rate:
-- Returns how many are lost now; below 0: found.
-- Twice: the second finds that they balance.
-- Cost: O(1).
local c = redis.call(
  'HMGET', K.counters, 'accepted', 'replayed', 'found', 'sent', 'dead', 'cancelled', 'lost'
)
local off = -redis.call('ZCARD', K.expiry)  -- of what is queued or processing each has its end
for i = 1, 7 do off = off + (i <= 3 and 1 or -1) * num(c[i], 0) end
redis.call('ZREM', K.processing, '')  -- a removal first: a full Redis lets the rest pass
if off > 0 then count('lost', off) end
if off < 0 then count('found', -off) end
return off
