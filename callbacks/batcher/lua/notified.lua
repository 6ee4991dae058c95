-- Remember up to when deaths have been told of.
--
-- KEYS[1] state         the schedule
-- ARGV[1] until         ms, from `deaths`
-- Returns 1.
-- Twice: it never moves back.
-- Cost: O(1).
local before = num(redis.call('HGET', KEYS[1], 'told'), 0)
redis.call('HDEL', KEYS[1], 'told')  -- a removal first: a full Redis lets the rest pass
redis.call('HSET', KEYS[1], 'told', math.max(before, num(ARGV[1])))
return 1
