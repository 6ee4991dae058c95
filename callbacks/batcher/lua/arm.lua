-- Ask for a check in `wait` ms, unless one due by then is on its way.
--
-- @keys state
-- @arg wait ms: from now
-- Returns 1: send the message; 0: one is on its way.
-- Twice: the second returns 0.
-- Cost: O(1).
local wanted = now + wait
local check_at = num(redis.call('HGET', K.state, 'check_at'), 0)
if check_at > now and check_at <= wanted + 50 then return 0 end  -- two looks differ by a moment
redis.call('HDEL', K.state, 'check_at')  -- a removal first: a full Redis lets the rest pass
redis.call('HSET', K.state, 'check_at', wanted)
return 1
