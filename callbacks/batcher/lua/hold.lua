-- Redis' clock has jumped: after a jump ahead, hold all expiry by age; after one back, resume it.
--
-- @keys state
-- @arg jump ms: negative: back
-- @arg since ms: the time of the caller's last look before it
-- @arg held_for ms: how long expiry is held
-- Returns 1: a new jump; 0: another has noticed it already.
-- Requests in flight get new leases afterwards, see `renew`.
-- Twice: the second returns 0.
-- Cost: O(1).
local jumped = num(redis.call('HGET', K.state, 'jumped'), 0)
-- The caller's last look, by the new clock: a jump noticed since then is this one.
if since + jump <= jumped + 1000 and jumped <= now then return 0 end
redis.call('HDEL', K.state, 'held', 'jump')  -- a removal first: a full Redis lets the rest pass
redis.call('HSET', K.state, 'jumped', now)
if jump > 0 then redis.call('HSET', K.state, 'held', now + held_for, 'jump', jump) end
return 1
