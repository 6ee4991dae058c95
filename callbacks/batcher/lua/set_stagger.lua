-- Set the stagger that has been decided.
--
-- KEYS[1] state         the schedule
-- ARGV[1] rate          sends per 1000 s that are wanted
-- ARGV[2] stagger       us between two sends
-- ARGV[3] why           the reason
-- Returns 1: it changed; 0: it is as it was.
-- Twice: the second changes nothing.
-- Cost: O(1).
local before = redis.call('HGET', KEYS[1], 'stagger')
redis.call('HDEL', KEYS[1], 'stagger')  -- a removal first: a full Redis lets the rest pass
redis.call('HSET', KEYS[1], 'rate', ARGV[1], 'stagger', ARGV[2], 'why', ARGV[3])
return before == ARGV[2] and 0 or 1
