-- Reserve an id for another shard than before, where no callback with it was found.
--
-- @keys at:
-- @arg id text
-- @arg before text: number of the shard for which it is reserved
-- @arg after text: number of the shard for which it shall be
-- @arg age ms: a younger reservation stays: its callback may be on its way
-- Returns 1: done; 0: it is too young, or reserved for yet another shard.
-- Twice: the second returns 0, as the first has renewed its time.
-- Cost: O(1).
local at, since = reserved_for(redis.call('GET', K.ats .. id))
if at and (at ~= before or since > now - age) then return 0 end
redis.call('SET', K.ats .. id, after .. ' ' .. now)
return 1
