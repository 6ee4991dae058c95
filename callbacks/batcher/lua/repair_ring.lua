-- Give a destination that an audit has named the place in the ring that its lane and its gate say.
--
-- @keys lane: ring dest: unproven
-- @arg destination text
-- @arg window ms: ahead of its next slot that a destination is claimed from
-- Returns 1.
-- Twice: it gets the same place.
-- Cost: O(log n).
redis.call('ZREM', K.ring, '')  -- a removal first: a full Redis lets the rest pass
to_ring(destination, window)
return 1
