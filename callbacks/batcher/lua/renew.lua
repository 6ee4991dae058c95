-- Give requests in flight their lease anew after a jump of Redis' clock; some in each call.
--
-- @keys state processing rec: inflight:
-- @arg limit number: most callbacks
-- @arg attempt_lease ms: of an attempt's lease
-- @arg max_wait ms: that an attempt's instant may lie ahead
-- Returns how many leases were renewed: of requests that had begun before the jump was noticed, so
--   that by the clock they have lasted too long, or will.
-- Twice: the second goes on with the others, and changes nothing where there are none.
-- Cost: O(limit * log n).
local jumped = num(redis.call('HGET', K.state, 'jumped'))
if not jumped then return 0 end
redis.call('ZREM', K.processing, '')  -- a removal first: a full Redis lets the rest pass

-- What began since has a lease that ends between these two.
local first, last = math.min(jumped, now) + attempt_lease, now + attempt_lease + max_wait
local ids = redis.call('ZRANGEBYSCORE', K.processing, '(' .. -first, '(0', 'LIMIT', 0, limit)
for _, id in ipairs(redis.call('ZRANGEBYSCORE', K.processing, '-inf', '(' .. -last, 'LIMIT', 0, limit - #ids)) do
  ids[#ids + 1] = id
end
for _, id in ipairs(ids) do
  local destination = read_record(id, 'destination').destination
  redis.call('ZADD', K.processing, -(now + attempt_lease), id)
  if destination then redis.call('ZADD', K.inflights .. destination, now + attempt_lease, id) end
end
return #ids
