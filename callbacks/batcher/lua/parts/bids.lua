-- What shards want of the stagger over all, and have got. In `wants`: shard -> when it said so, how
-- many slots it still wants, and its demand; `g<shard>` -> how many it has got in all, and the slot
-- after the last of them; `v` -> how many the shard had got that got some last.

-- A shard's word, or nil if it no longer counts, or is none: `g<shard>` and `v` have fewer parts.
local function bid_of(word, bid_for)
  local at, want, demand = string.match(word or '', '^(%d+) (%d+) (.*)$')
  at = num(at, 0)
  if at <= now - bid_for or at > now then return nil end
  return {at = at, want = num(want), demand = demand}
end

-- How many slots a shard has got in all, and the slot after the last of them.
local function granted_to(shard)
  local word = redis.call('HGET', K.wants, 'g' .. shard) or ''
  local had, till = string.match(word, '^(%d+) (%d+)$')
  return num(had, 0), num(till, 0)
end
