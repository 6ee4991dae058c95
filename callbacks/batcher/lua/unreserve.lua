-- Delete reservations of callbacks that a shard has forgotten; this is the shard of their ids.
--
-- @keys at:
-- @arg shard text: number of the shard that has forgotten them
-- @arg age ms: a younger reservation stays: the id is just being used again
-- @arg ids list
-- Returns how many were deleted.
-- Twice: the second returns 0.
-- Cost: O(ids).
local deleted = 0
for _, id in ipairs(ids) do
  local at, since = reserved_for(redis.call('GET', K.ats .. id))
  if at == shard and since <= now - age then deleted = deleted + redis.call('DEL', K.ats .. id) end
end
return deleted
