-- Give the dispatch lock back, if it is still this owner's.
--
-- @keys lock state
-- @arg owner text: token of the dispatcher
-- @arg fence text: number that came with the lock
-- Returns 1: given back; 2: and a trigger was due meanwhile, which found the lock held, so that
--   it is to be sent again; 0: the lock was another's, or nobody's.
-- Twice: the second finds nothing of its own.
-- Cost: O(1).
if redis.call('GET', K.lock) ~= owner .. ':' .. fence then return 0 end
redis.call('DEL', K.lock)
local armed = num(redis.call('HGET', K.state, 'next_batch'), 0)
if armed > 0 and armed <= now then return 2 end
return 1
