-- Remember that the scheduler was heard of just now.
--
-- @keys state
-- Returns 1.
-- Twice: it is remembered a moment later.
-- Cost: O(1).
redis.call('HDEL', K.state, 'scheduled')  -- a removal first: a full Redis lets the rest pass
redis.call('HSET', K.state, 'scheduled', now)
return 1
