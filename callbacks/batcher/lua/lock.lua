-- Take the dispatch lock, with a fence number that only grows.
--
-- KEYS[1] lock          the dispatch lock
-- KEYS[2] state         the schedule, which keeps the fence
-- ARGV[1] owner         token of the dispatcher
-- ARGV[2] ttl           ms until it frees itself
-- Returns the fence, from 1; 0: another holds the lock.
-- Twice: the owner that holds it already keeps its fence and its time.
-- Cost: O(1).
local K = {lock = KEYS[1], state = KEYS[2]}
local owner, ttl = ARGV[1], num(ARGV[2])
if lasts(K.lock, ttl) then
  local fence = string.match(redis.call('GET', K.lock), '^' .. owner .. ':(%d+)$')
  return num(fence, 0)
end
redis.call('DEL', K.lock)  -- a removal first: a full Redis lets the rest pass
local fence = redis.call('HINCRBY', K.state, 'fence', 1)
redis.call('SET', K.lock, owner .. ':' .. fence, 'PX', ttl)
return fence
