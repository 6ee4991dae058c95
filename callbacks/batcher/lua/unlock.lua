-- Give the dispatch lock back, if it is still this owner's.
--
-- KEYS[1] lock          the dispatch lock
-- KEYS[2] state         the schedule
-- ARGV[1] owner         token of the dispatcher
-- ARGV[2] fence         number that came with the lock
-- Returns 1: given back; 2: and a trigger was due meanwhile, which found the lock held, so that
--   it is to be sent again; 0: the lock was another's, or nobody's.
-- Twice: the second finds nothing of its own.
-- Cost: O(1).
local K = {lock = KEYS[1], state = KEYS[2]}
if redis.call('GET', K.lock) ~= ARGV[1] .. ':' .. ARGV[2] then return 0 end
redis.call('DEL', K.lock)
local armed = num(redis.call('HGET', K.state, 'next_batch'), 0)
if armed > 0 and armed <= now_ms() then return 2 end
return 1
