-- Take the dispatch lock, with a fence number that only grows.
--
-- @keys lock state
-- @arg owner text: token of the dispatcher
-- @arg lock_ttl ms: until it frees itself
-- Returns the fence, from 1; 0: another holds the lock.
-- Twice: an owner that holds it already keeps its fence and its time.
-- Cost: O(1).
if lasts(K.lock, lock_ttl) then
  local fence = string.match(redis.call('GET', K.lock), '^' .. owner .. ':(%d+)$')
  return num(fence, 0)
end
redis.call('DEL', K.lock)  -- a removal first: a full Redis lets the rest pass
local fence = redis.call('HINCRBY', K.state, 'fence', 1)
redis.call('SET', K.lock, owner .. ':' .. fence, 'PX', lock_ttl)
return fence
