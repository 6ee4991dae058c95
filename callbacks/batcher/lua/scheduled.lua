-- Remember that the scheduler was heard of just now.
--
-- KEYS[1] state         the schedule
-- Returns 1.
-- Twice: it is remembered a moment later.
-- Cost: O(1).
redis.call('HDEL', KEYS[1], 'scheduled')  -- a removal first: a full Redis lets the rest pass
redis.call('HSET', KEYS[1], 'scheduled', now_ms())
return 1
