-- Let claims and begins go on, of all, of one destination, or of a host's lanes.
--
-- KEYS[1] state         the schedule
-- KEYS[2] dest:         destinations' own state
-- KEYS[3] ring          destinations with something waiting
-- KEYS[4] lane:         lanes
-- ARGV[1] destination   empty: all; `<host>#*`: every lane of that host; those that wait have to be
--   called back one by one
-- ARGV[2] itself        1: named by itself, it goes on also where its host's lanes are paused
-- ARGV[3] window        ms ahead of its next slot that a destination is claimed from
-- A destination loses its hold and its breaker, too.
-- Returns 1: was paused, on hold or broken; 0: was not.
-- Twice: the second finds nothing to resume.
-- Cost: O(log n).
local K = {state = KEYS[1], dests = KEYS[2], ring = KEYS[3], lanes = KEYS[4]}
local name, window = ARGV[1], num(ARGV[3])
if name == '' then return redis.call('HDEL', K.state, 'paused') end
local changed = redis.call('HDEL', K.dests .. name, 'paused', 'hold', 'why', 'broken')
redis.call('HDEL', K.dests .. name, 'fails', 'opens', 'interval', 'grown', 'moved', 'latency', 'share')
redis.call('PEXPIRE', K.dests .. name, 86400000)
if ARGV[2] == '1' and host_paused(K, name) then
  changed = changed + redis.call('HSET', host_mark(K, name), name, 1)
end
to_ring(K, name, window, now_ms())
return math.min(1, changed)
