-- Take the next free instant of the stagger over all for one send.
--
-- @keys state
-- @arg pace ms: the stagger
-- @arg adapts flag: use it as stored, if it is
-- @arg wait ms: not before then
-- @arg max_wait ms: the longest a sender may wait
-- @arg must flag: take one however far ahead it is
-- @arg longest ms: the longest possible stagger
-- Returns {wait, taken}: ms until the instant; 0: it is too far ahead and was not taken.
-- Twice: the first instant stays unused.
-- Cost: O(1).
local s = read_hash(K.state, 'send', 'stagger')
pace = pace_of(s.stagger, pace, adapts)
local at = math.max(now + wait, reserved(s.send, max_wait + longest))
if at - now > max_wait and not must then return {at - now, 0} end
redis.call('HDEL', K.state, 'send')  -- a removal first: a full Redis lets the rest pass
redis.call('HSET', K.state, 'send', at + pace)
return {at - now, 1}
