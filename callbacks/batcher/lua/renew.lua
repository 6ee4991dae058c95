-- Renew the leases of requests in flight after a jump of Redis' clock, some in each call.
--
-- @keys state processing rec: inflight:
-- @arg limit number: most callbacks
-- @arg attempt_lease ms: the lease of an attempt
-- @arg max_wait ms: how far ahead an attempt's instant may lie
-- Returns how many leases were renewed: of requests begun before the jump was noticed, whose leases
--   end too soon or too late by the new clock.
-- Twice: the second goes on with the others, if there are any.
-- Cost: O(limit * log n).
local jumped = num(redis.call('HGET', K.state, 'jumped'))
if not jumped then return 0 end
redis.call('ZREM', K.processing, '')  -- a removal first: a full Redis lets the rest pass

-- What began since has a lease that ends between these two.
local first, last = math.min(jumped, now) + attempt_lease, now + attempt_lease + max_wait
local ids = redis.call('ZRANGEBYSCORE', K.processing, '(' .. -first, '(0', 'LIMIT', 0, limit)
local left = limit - #ids
local more = redis.call('ZRANGEBYSCORE', K.processing, '-inf', '(' .. -last, 'LIMIT', 0, left)
for _, id in ipairs(more) do
  ids[#ids + 1] = id
end
for _, id in ipairs(ids) do
  local destination = read_record(id, 'destination').destination
  redis.call('ZADD', K.processing, -(now + attempt_lease), id)
  if destination then redis.call('ZADD', K.inflights .. destination, now + attempt_lease, id) end
end
return #ids
