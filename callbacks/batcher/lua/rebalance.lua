-- Make the totals balance: count missing callbacks as `lost`, surplus ones as `found`.
--
-- @keys expiry processing counters rate:
-- Returns how many were lost; negative: found.
-- Twice: the second finds them balanced.
-- Cost: O(1).
local c = redis.call(
  'HMGET', K.counters, 'accepted', 'replayed', 'found', 'sent', 'dead', 'cancelled', 'lost'
)
local off = -redis.call('ZCARD', K.expiry)  -- holds all that is queued or processing
for i = 1, 7 do off = off + (i <= 3 and 1 or -1) * num(c[i], 0) end
redis.call('ZREM', K.processing, '')  -- a removal first: a full Redis lets the rest pass
if off > 0 then count('lost', off) end
if off < 0 then count('found', -off) end
return off
