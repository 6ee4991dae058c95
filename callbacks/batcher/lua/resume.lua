-- Let claims and begins go on, of all, of one destination, or of a host's lanes.
--
-- KEYS[1] state         the schedule
-- KEYS[2] dest:         destinations' own state
-- KEYS[3] ring          destinations with something waiting
-- KEYS[4] lane:         lanes
-- KEYS[5] unproven      destinations with something waiting that have not answered lately
-- KEYS[6] answers:      answers, for repeats
-- ARGV[1] nonce         random, of this call
-- ARGV[2] lasts         ms that its answer is kept
-- ARGV[3] destination   empty: all; `<host>#*`: every lane of that host; those that wait have to be
--   called back one by one
-- ARGV[4] itself        1: named by itself, it goes on also where its host's lanes are paused
-- ARGV[5] window        ms ahead of its next slot that a destination is claimed from
-- A destination loses its hold and its breaker, too.
-- Returns 1: was paused, on hold or broken; 0: was not.
-- Twice: the same nonce gets the same answer.
-- Cost: O(log n).
-- @uses answer
local K = {
  state = KEYS[1], dests = KEYS[2], ring = KEYS[3], lanes = KEYS[4], unproven = KEYS[5],
  answers = KEYS[6],
}
local nonce, lasts, name, itself, window = ARGV[1], ARGV[2], ARGV[3], ARGV[4] == '1', num(ARGV[5])
local before = Answer.before(K, nonce)
if before then return before end
if name == '' then return Answer.keep(K, nonce, lasts, redis.call('HDEL', K.state, 'paused')) end
local changed = redis.call('HDEL', K.dests .. name, 'paused', 'hold', 'why', 'broken')
redis.call('HDEL', K.dests .. name, 'fails', 'opens', 'interval', 'grown', 'moved', 'latency', 'share')
keep_dest(K.dests .. name, 0, 0)
if itself and host_paused(K, name) then
  changed = changed + redis.call('HSET', host_mark(K, name), name, 1)
end
to_ring(K, name, window, now_ms())
return Answer.keep(K, nonce, lasts, math.min(1, changed))
