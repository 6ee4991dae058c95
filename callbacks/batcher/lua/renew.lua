-- Give requests in flight their lease anew after a jump of Redis' clock; some in each call.
--
-- KEYS[1] state         the schedule, which keeps when the jump was noticed
-- KEYS[2] processing    PROCESSING
-- KEYS[3] rec:          records
-- KEYS[4] inflight:     requests in flight
-- ARGV[1] limit         most callbacks
-- ARGV[2] lease         ms of an attempt's lease
-- ARGV[3] wait          ms that an attempt's instant may lie ahead
-- Returns how many leases were renewed: of requests that had begun before the jump was noticed, so
--   that by the clock they have lasted too long, or will.
-- Twice: the second goes on with the others, and changes nothing where there are none.
-- Cost: O(limit * log n).
local K = {state = KEYS[1], processing = KEYS[2], recs = KEYS[3], inflights = KEYS[4]}
local limit, lease = num(ARGV[1]), num(ARGV[2])
local now, jumped = now_ms(), num(redis.call('HGET', K.state, 'jumped'))
if not jumped then return 0 end
redis.call('ZREM', K.processing, '')  -- a removal first: a full Redis lets the rest pass

-- What began since has a lease that ends between these two.
local first, last = math.min(jumped, now) + lease, now + lease + num(ARGV[3])
local ids = redis.call('ZRANGEBYSCORE', K.processing, '(' .. -first, '(0', 'LIMIT', 0, limit)
for _, id in ipairs(redis.call('ZRANGEBYSCORE', K.processing, '-inf', '(' .. -last, 'LIMIT', 0, limit - #ids)) do
  ids[#ids + 1] = id
end
for _, id in ipairs(ids) do
  local destination = redis.call('HGET', K.recs .. id, 'd')
  redis.call('ZADD', K.processing, -(now + lease), id)
  if destination then redis.call('ZADD', K.inflights .. destination, now + lease, id) end
end
return #ids
