-- Let enqueues in, or refuse them before Redis itself refuses writes.
--
-- @keys state
-- @arg full flag: refuse, else let in
-- Returns 1: changed; 0: it was so already.
-- Twice: the second returns 0.
-- Cost: O(1).
local was = redis.call('HDEL', K.state, 'full')  -- a removal first: a full Redis lets the rest pass
if not full then return was end
redis.call('HSET', K.state, 'full', 1)
return 1 - was
