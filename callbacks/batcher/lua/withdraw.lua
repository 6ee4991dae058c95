-- Move paused destinations to the end of the ring for good, so that no claim reaches them.
--
-- @keys dest: ring inflight: unproven
-- @arg names list
-- Returns how many requests to them are still in flight.
-- Twice: the second changes nothing; a destination resumed meanwhile stays where it is.
-- Cost: O(names * log n).
local flying = 0
redis.call('ZREM', K.ring, '')  -- a removal first: a full Redis lets the rest pass
for _, name in ipairs(names) do
  local gate, ring = gate_of(name, 0)
  if gate == math.huge then redis.call('ZADD', ring, 'XX', '+inf', name) end
  flying = flying + redis.call('ZCOUNT', K.inflights .. name, now, '+inf')
end
return flying
