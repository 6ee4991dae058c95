-- Take destinations that are paused out of the ring, so that no claim comes to them.
--
-- KEYS[1] dest:         destinations' own state
-- KEYS[2] ring          destinations with something waiting
-- KEYS[3] inflight:     requests in flight
-- KEYS[4] unproven      destinations with something waiting that have not answered lately
-- ARGV[1] names         and all after it
-- Returns how many requests to them are still in flight.
-- Twice: the second finds them out already; one that was resumed meanwhile stays in.
-- Cost: O(names * log n).
local K = {dests = KEYS[1], ring = KEYS[2], inflights = KEYS[3], unproven = KEYS[4]}
local now, flying = now_ms(), 0
redis.call('ZREM', K.ring, '')  -- a removal first: a full Redis lets the rest pass
for i = 1, #ARGV do
  local name = ARGV[i]
  local gate, ring = gate_of(K, name, 0)
  if gate == math.huge then redis.call('ZADD', ring, 'XX', '+inf', name) end
  flying = flying + redis.call('ZCOUNT', K.inflights .. name, now, '+inf')
end
return flying
