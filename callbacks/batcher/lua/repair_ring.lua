-- Put a destination that an audit has found at its place in the ring, from its lane and gate.
--
-- @keys lane: ring dest: unproven
-- @arg destination text
-- @arg window ms: how long before its next slot a destination is claimed from
-- Returns 1.
-- Twice: it gets the same place.
-- Cost: O(log n).
redis.call('ZREM', K.ring, '')  -- a removal first: a full Redis lets the rest pass
to_ring(destination, window)
return 1
