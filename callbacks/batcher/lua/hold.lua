-- Redis' clock has jumped: hold what ends by age after a jump ahead; after one back let it go on.
--
-- @keys state
-- @arg jump ms: below 0: back
-- @arg since ms: the time at the caller's look before it
-- @arg held_for ms: for which it is held
-- Returns 1: that is news; 0: another has noticed this jump before.
-- What is being sent gets its lease anew afterwards, see renew.
-- Twice: the second is told 0.
-- Cost: O(1).
local jumped = num(redis.call('HGET', K.state, 'jumped'), 0)
-- The caller's last look, as the clock is now: one that was noticed since then is this very jump.
if since + jump <= jumped + 1000 and jumped <= now then return 0 end
redis.call('HDEL', K.state, 'held', 'jump')  -- a removal first: a full Redis lets the rest pass
redis.call('HSET', K.state, 'jumped', now)
if jump > 0 then redis.call('HSET', K.state, 'held', now + held_for, 'jump', jump) end
return 1
