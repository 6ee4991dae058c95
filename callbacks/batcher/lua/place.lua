-- Read whether a lane holds anything and its place in its ring, at one instant; changes nothing.
--
-- @keys lane: ring unproven dest:
-- @arg destination text
-- Returns {1 if the lane holds something, place in the ring or an empty string, 1 if it waits there
--   over a minute longer than it has to, 1 if it is in both rings}.
-- Cost: O(log n).
local proven = redis.call('ZSCORE', K.ring, destination)
local unproven = redis.call('ZSCORE', K.unproven, destination)
local place = proven or unproven
local first = redis.call('ZRANGE', K.lanes .. destination, 0, 0, 'WITHSCORES')
local gate, late = gate_of(destination, 0), 0
if place and first[2] and gate < math.huge then
  late = num(place) > math.max(gate, num(first[2]), now) + 60000 and 1 or 0
end
return {first[1] and 1 or 0, place or '', late, proven and unproven and 1 or 0}
