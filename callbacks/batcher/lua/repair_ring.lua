-- Give a destination that an audit has named the place in the ring that its lane and its gate say.
--
-- KEYS[1] lane:         lanes
-- KEYS[2] ring          destinations with something waiting
-- KEYS[3] dest:         destinations' own state
-- KEYS[4] unproven      destinations with something waiting that have not answered lately
-- ARGV[1] destination
-- ARGV[2] window        ms ahead of its next slot that a destination is claimed from
-- Returns 1.
-- Twice: it gets the same place.
-- Cost: O(log n).
local K = {lanes = KEYS[1], ring = KEYS[2], dests = KEYS[3], unproven = KEYS[4]}
redis.call('ZREM', K.ring, '')  -- a removal first: a full Redis lets the rest pass
to_ring(K, ARGV[1], num(ARGV[2]), now_ms())
return 1
