-- Let enqueues in, or refuse them before Redis itself refuses writes.
--
-- KEYS[1] state         the schedule
-- ARGV[1] full          1: refuse, 0: let in
-- Returns 1: that is a change; 0: it was so.
-- Twice: the second is told 0.
-- Cost: O(1).
local was = redis.call('HDEL', KEYS[1], 'full')  -- a removal first: a full Redis lets the rest pass
if ARGV[1] == '0' then return was end
redis.call('HSET', KEYS[1], 'full', 1)
return 1 - was
