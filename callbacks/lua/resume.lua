-- Let claims and begins go on, of all or of one destination, which loses its hold and breaker.
--
-- KEYS[1] state         the schedule
-- KEYS[2] dest:         destinations' own state
-- KEYS[3] ring          destinations with something waiting
-- KEYS[4] lane:         lanes
-- ARGV[1] destination   empty: all
-- ARGV[2] window        ms ahead of its next slot that a destination is claimed from
-- Returns 1: was paused, on hold or broken; 0: was not.
-- Twice: the second finds nothing to resume.
-- Cost: O(log n).
local K = {state = KEYS[1], dests = KEYS[2], ring = KEYS[3], lanes = KEYS[4]}
local name, window = ARGV[1], num(ARGV[2])
if name == '' then return redis.call('HDEL', K.state, 'paused') end
local changed = redis.call('HDEL', K.dests .. name, 'paused', 'hold', 'why', 'broken')
redis.call('HDEL', K.dests .. name, 'fails', 'opens', 'interval', 'grown', 'moved', 'latency', 'share')
keep_dest(K.dests .. name, 0, 0)
to_ring(K, name, window, now_ms())
return math.min(1, changed)
