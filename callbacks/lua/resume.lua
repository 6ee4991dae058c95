-- Let claims and begins go on, of all or of one destination, which loses its hold and breaker.
--
-- KEYS[1] state         the schedule
-- KEYS[2] dest:         destinations' own state
-- KEYS[3] ring          destinations with something waiting
-- KEYS[4] lane:         lanes
-- KEYS[5] unproven      destinations with something waiting that have not answered lately
-- KEYS[6] answers:      answers, for repeats
-- ARGV[1] nonce         random, of this call
-- ARGV[2] lasts         ms that its answer is kept
-- ARGV[3] destination   empty: all
-- ARGV[4] window        ms ahead of its next slot that a destination is claimed from
-- Returns 1: was paused, on hold or broken; 0: was not.
-- Twice: the same nonce gets the same answer.
-- Cost: O(log n).
-- @uses answer
local K = {
  state = KEYS[1], dests = KEYS[2], ring = KEYS[3], lanes = KEYS[4], unproven = KEYS[5],
  answers = KEYS[6],
}
local nonce, lasts, name, window = ARGV[1], ARGV[2], ARGV[3], num(ARGV[4])
local before = Answer.before(K, nonce)
if before then return before end
if name == '' then return Answer.keep(K, nonce, lasts, redis.call('HDEL', K.state, 'paused')) end
local changed = redis.call('HDEL', K.dests .. name, 'paused', 'hold', 'why', 'broken')
redis.call('HDEL', K.dests .. name, 'fails', 'opens', 'interval', 'grown', 'moved', 'latency', 'share')
redis.call('PEXPIRE', K.dests .. name, 86400000)
to_ring(K, name, window, now_ms())
return Answer.keep(K, nonce, lasts, math.min(1, changed))
