-- End a begun attempt with its outcome: record, counters, destination and PROCESSING together.
--
-- KEYS[1] processing    PROCESSING
-- KEYS[2] rec:          records
-- KEYS[3] cb:           frozen requests
-- KEYS[4] expiry        ends of life
-- KEYS[5] sent          sent and cancelled records
-- KEYS[6] dead          dead letters
-- KEYS[7] inflight:     requests in flight
-- KEYS[8] lane:         lanes
-- KEYS[9] ring          destinations with something waiting
-- KEYS[10] dest:        destinations' own state
-- KEYS[11] counters     totals
-- KEYS[12] rate:        totals of each 10 s
-- KEYS[13] state        the schedule
-- KEYS[14] tried        destinations tried lately
-- KEYS[15] failing      those whose last attempt failed in transport
-- KEYS[16] gone         URLs that answered 410
-- KEYS[17] suspects     requests in flight of callbacks that have crashed
-- KEYS[18] trial        the one callback whose last try this is
-- KEYS[19] unproven     destinations with something waiting that have not answered lately
-- KEYS[20] places       callbacks in flight or claimed, by when they take a place of such
-- ARGV[1] id
-- ARGV[2] token         of the claim
-- ARGV[3] attempt       number that `begin` gave
-- ARGV[4] outcome       sent, retry or dead
-- ARGV[5] reason        empty when sent
-- ARGV[6] delay         ms until the retry
-- ARGV[7] park          1: wait for the retry in the lane, 0: in PROCESSING
-- ARGV[8] throttled     1: does not use up a retry
-- ARGV[9] entry         the attempt for the history, a JSON list
-- ARGV[10] detail       one line about the failure
-- ARGV[11] window       ms ahead of its next slot that a destination is claimed from
-- ARGV[12] look_ahead   ms within which the next batch is armed
-- ARGV[13] effect       on the destination: ok, alive, fault, none
-- ARGV[14] transport    1: failed in transport
-- ARGV[15] duration     ms that the request took
-- ARGV[16] hold         ms for which the destination asked to be left alone, 0: it did not
-- ARGV[17] factor       thousandths by which its interval changes
-- ARGV[18] interval     us, where the interval starts
-- ARGV[19] interval_min us
-- ARGV[20] interval_max us
-- ARGV[21] failures     consecutive faults that open the breaker, 0: none do
-- ARGV[22] open_min     ms for which it opens at first
-- ARGV[23] open_max     ms for which it opens at most
-- ARGV[24] gone_url     SHA-1 of a URL that is gone, or empty
-- Returns {code, arm, interval, breaker}: code 1 sent, 2 waits in PROCESSING for its retry, 3 waits in its lane,
--   4 dead, 5 cancelled meanwhile; 0: a stale token or attempt, nothing changed. arm: ms until
--   the next trigger, to be sent by this caller, or -1. interval: us, the destination's now, or -1
--   where it has not adapted; breaker: 1 it opened, 2 it closed, 0 neither.
-- Twice: a repeat with the same token and attempt gets the first result and changes nothing.
-- Cost: O(log n).
-- @uses feedback
-- @uses last_try
local K = {
  processing = KEYS[1], recs = KEYS[2], cbs = KEYS[3], expiry = KEYS[4], sent = KEYS[5],
  dead = KEYS[6], inflights = KEYS[7], lanes = KEYS[8], ring = KEYS[9], dests = KEYS[10],
  counters = KEYS[11], rates = KEYS[12], state = KEYS[13], tried = KEYS[14], failing = KEYS[15],
  gone = KEYS[16], suspects = KEYS[17], trial = KEYS[18], unproven = KEYS[19], places = KEYS[20],
}
local id, token, attempt, outcome, reason = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local delay, park, throttled = num(ARGV[6]), ARGV[7] == '1', ARGV[8] == '1'
local entry, detail, window, look_ahead = ARGV[9], ARGV[10], num(ARGV[11]), num(ARGV[12])
local gone_url = ARGV[24]
local rec = K.recs .. id
local results = {sent = 1, retry = 2, queued = 3, dead = 4, cancelled = 5}
local now = now_ms()

local r = redis.call('HMGET', rec, 't', 'a', 's', 'd', 'x', 'h', 'p', 'at', 'c', 'end')
if r[1] ~= token or r[2] ~= attempt or not (r[3] == 'sending' or results[r[3]]) then
  count_stale(K, now)
  return {0, -1, -1, 0}
end
if r[3] ~= 'sending' then return {results[r[3]], -1, -1, 0} end
local destination = r[4]

redis.call('ZREM', K.processing, id)
redis.call('ZREM', K.inflights .. destination, id)
redis.call('ZREM', K.places, id)
if r[9] then LastTry.leave(K, id) end
redis.call('HSET', rec, 'h', with_entry(r[6], entry), 'e', detail)
redis.call('HDEL', rec, 'p', 'w', 'u', 'ns')

local feedback = Feedback.new(K, destination, {
  effect = ARGV[13], transport = ARGV[14] == '1', reason = reason, duration = num(ARGV[15]),
  hold = num(ARGV[16]), factor = num(ARGV[17]), interval = num(ARGV[18]),
  interval_min = num(ARGV[19]), interval_max = num(ARGV[20]), failures = num(ARGV[21]),
  open_min = num(ARGV[22]), open_max = num(ARGV[23]), at = num(r[8], now), probe = r[7],
}, now)
feedback:make()
if gone_url ~= '' then redis.call('ZADD', K.gone, now, gone_url) end

-- What becomes of the callback.
local what = outcome
if outcome == 'retry' and r[5] then what = 'cancelled' end
if what ~= 'retry' then
  finish(K, id, destination, what, what == 'cancelled' and what or reason, now)
else
  if r[10] then end_of_life(K, id, r[10]) end
  count(K, throttled and 'throttled' or 'retried', 1, now)
  redis.call('HINCRBY', rec, throttled and 'th' or 'r', 1)
  redis.call('HSET', rec, 's', park and 'queued' or 'retry', 'due', now + delay, 'o', reason)
  if park then
    what = 'queued'
    to_lane(K, destination, id, now + delay, window)
  else
    redis.call('ZADD', K.processing, now + delay, id)
  end
end
local next_at, armed = to_ring(K, destination, window, now), -1
local frees_place = string.sub(token, -1) == 'u' or num(ARGV[15]) >= 1000
if frees_place then next_at = math.min(next_at, first_unproven(K)) end
if next_at < math.huge then armed = arm_trigger(K, math.max(now, next_at), now, look_ahead) end
return {results[what], armed, feedback.interval, feedback.breaker}
