-- Give back the last slots of a shard that it cannot use, unless others have got some since.
--
-- @keys wants state
-- @arg shard text: the number of that shard
-- @arg pace ms: the stagger
-- @arg unused number: of its slots
-- Returns 1: given back; 0: others have got some since.
-- Twice: the second returns 0.
-- Cost: O(1).
local slot, had, till = num(redis.call('HGET', K.state, 'slot'), 0), granted_to(shard)
if till ~= slot then return 0 end
redis.call('HDEL', K.wants, 'g' .. shard)  -- a removal first: a full Redis lets the rest pass
redis.call('HSET', K.wants, 'g' .. shard, had - unused .. ' 0')
redis.call('HSET', K.state, 'slot', slot - unused * pace)
return 1
