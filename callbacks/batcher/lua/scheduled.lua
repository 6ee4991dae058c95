-- Remember that the scheduler was seen just now.
--
-- @keys state
-- Returns 1.
-- Twice: the later time is kept.
-- Cost: O(1).
redis.call('HDEL', K.state, 'scheduled')  -- a removal first: a full Redis lets the rest pass
redis.call('HSET', K.state, 'scheduled', now)
return 1
