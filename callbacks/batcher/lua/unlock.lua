-- Release the dispatch lock, if it is still this owner's.
--
-- @keys lock state
-- @arg owner text: token of the dispatcher
-- @arg fence text: number that came with the lock
-- Returns 1: released; 2: and a trigger that was due meanwhile found the lock held: send it again;
--   0: the lock was another's, or nobody's.
-- Twice: the second returns 0.
-- Cost: O(1).
if redis.call('GET', K.lock) ~= owner .. ':' .. fence then return 0 end
redis.call('DEL', K.lock)
local armed = num(redis.call('HGET', K.state, 'next_batch'), 0)
if armed > 0 and armed <= now then return 2 end
return 1
