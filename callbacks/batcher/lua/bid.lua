-- Say what one shard has to send, and read what all have: what the stagger over all is decided by.
--
-- @keys wants state
-- @arg shard text: the number of that shard
-- @arg want number: how many slots it could use within the horizon
-- @arg demand text: what else it has, numbers separated by spaces
-- @arg bid_for ms: for how long a shard's word counts
-- Returns {rate, demand, demand, ...}: rate: set before, in sends per 1000 s, or -1; the demands of
--   all shards whose words still count, the caller's included.
-- A shard that wanted nothing meanwhile has no arrears to be made good, see `grant`.
-- Twice: the second says the same.
-- Cost: O(shards).
local before = bid_of(redis.call('HGET', K.wants, shard), bid_for)
redis.call('HDEL', K.wants, shard)  -- a removal first: a full Redis lets the rest pass
redis.call('HSET', K.wants, shard, now .. ' ' .. want .. ' ' .. demand)
if not before or before.want == 0 then
  local had, till = granted_to(shard)
  local newest = num(redis.call('HGET', K.wants, 'v'), 0)
  if newest > had then redis.call('HSET', K.wants, 'g' .. shard, newest .. ' ' .. till) end
end
local answer, all = {num(redis.call('HGET', K.state, 'rate'), -1)}, redis.call('HGETALL', K.wants)
for i = 1, #all, 2 do
  local bid = bid_of(all[i + 1], bid_for)
  if bid then answer[#answer + 1] = bid.demand end
end
return answer
