-- Reserve ids of callers' own for the shards of their destinations; this is the shard of the ids.
--
-- @keys at: cb: rec: counters rate:
-- @arg items list: for each: id, number of the shard that it is for
-- Returns for each: -1: reserved for that shard, by this call or one before; -2: a callback with
--   this id is in this shard; else the number of the other shard for which it is reserved.
-- Twice: the second returns the same, and renews the times of the reservations.
-- Cost: O(items).
local answer, known = {}, 0
for i = 1, #items, 2 do
  local id, shard = items[i], items[i + 1]
  local at = reserved_for(redis.call('GET', K.ats .. id))
  if not at and redis.call('EXISTS', K.cbs .. id, K.recs .. id) > 0 then
    answer[#answer + 1], known = -2, known + 1
  elseif at and at ~= shard then
    answer[#answer + 1] = num(at)
  else
    redis.call('SET', K.ats .. id, shard .. ' ' .. now)
    answer[#answer + 1] = -1
  end
end
if known > 0 then count_refused('duplicates', known) end
return answer
