-- Say whether a lane holds anything and where it is in its ring, at one instant; changes nothing.
--
-- KEYS[1] lane:         lanes
-- KEYS[2] ring          destinations with something waiting
-- KEYS[3] unproven      destinations with something waiting that have not answered lately
-- ARGV[1] destination
-- Returns {1 if the lane holds something, place in the ring or an empty string}.
-- Cost: O(1).
local place = redis.call('ZSCORE', KEYS[2], ARGV[1]) or redis.call('ZSCORE', KEYS[3], ARGV[1])
return {redis.call('EXISTS', KEYS[1] .. ARGV[1]), place or ''}
