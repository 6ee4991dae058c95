-- Say whether a lane holds anything and where it is in its ring, at one instant; changes nothing.
--
-- KEYS[1] lane:         lanes
-- KEYS[2] ring          destinations with something waiting
-- KEYS[3] unproven      destinations with something waiting that have not answered lately
-- KEYS[4] dest:         destinations' own state
-- ARGV[1] destination
-- Returns {1 if the lane holds something, place in the ring or an empty string, 1 if it waits
--   there for more than a minute longer than it has to, 1 if it stands in both rings}.
-- Cost: O(log n).
local K = {lanes = KEYS[1], ring = KEYS[2], unproven = KEYS[3], dests = KEYS[4]}
local name = ARGV[1]
local proven, unproven = redis.call('ZSCORE', K.ring, name), redis.call('ZSCORE', K.unproven, name)
local place = proven or unproven
local first = redis.call('ZRANGE', K.lanes .. name, 0, 0, 'WITHSCORES')
local gate, late = gate_of(K, name, 0), 0
if place and first[2] and gate < math.huge then
  late = num(place) > math.max(gate, num(first[2]), now_ms()) + 60000 and 1 or 0
end
return {first[1] and 1 or 0, place or '', late, proven and unproven and 1 or 0}
