-- Remember up to when deaths have been reported.
--
-- @keys state
-- @arg told_until ms: from `deaths`
-- Returns 1.
-- Twice: it never moves back.
-- Cost: O(1).
local before = num(redis.call('HGET', K.state, 'told'), 0)
redis.call('HDEL', K.state, 'told')  -- a removal first: a full Redis lets the rest pass
redis.call('HSET', K.state, 'told', math.max(before, told_until))
return 1
