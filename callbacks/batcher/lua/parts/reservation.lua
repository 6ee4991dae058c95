-- Reservations of ids, see `at:`.

-- The number of the shard, as a text, and since when it has been reserved; nil if it is not.
local function reserved_for(value)
  if not value then return nil end
  local shard, since = string.match(value, '^(%d+) (%d+)$')
  return shard, num(since, 0)
end
