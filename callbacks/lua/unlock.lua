-- Give the dispatch lock back, if it is still this owner's.
--
-- KEYS[1] lock          the dispatch lock
-- ARGV[1] owner         token of the dispatcher
-- ARGV[2] fence         number that came with the lock
-- Returns 1: given back; 0: it was another's, or nobody's.
-- Twice: the second finds nothing of its own.
-- Cost: O(1).
if redis.call('GET', KEYS[1]) ~= ARGV[1] .. ':' .. ARGV[2] then return 0 end
return redis.call('DEL', KEYS[1])
