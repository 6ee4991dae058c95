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
-- ARGV[1] id
-- ARGV[2] token         of the claim
-- ARGV[3] attempt       number that `begin` gave
-- ARGV[4] outcome       sent, retry or dead
-- ARGV[5] reason        empty when sent
-- ARGV[6] delay         ms until the retry
-- ARGV[7] park          1: wait for the retry in the lane, 0: in PROCESSING
-- ARGV[8] throttled     1: does not use up a retry
-- ARGV[9] lease         ms past its due time at which a retry is taken back
-- ARGV[10] entry        the attempt for the history, a JSON list
-- ARGV[11] detail       one line about the failure
-- ARGV[12] horizon      ms that slots may lie ahead
-- Returns 1 sent, 2 waits in PROCESSING for its retry, 3 waits in its lane, 4 dead,
--   5 cancelled meanwhile; 0: a stale token or attempt, nothing changed.
-- Twice: a repeat with the same token and attempt gets the first result and changes nothing.
-- Cost: O(log n).
local K = {
  processing = KEYS[1], recs = KEYS[2], cbs = KEYS[3], expiry = KEYS[4], sent = KEYS[5],
  dead = KEYS[6], inflights = KEYS[7], lanes = KEYS[8], ring = KEYS[9], dests = KEYS[10],
  counters = KEYS[11], rates = KEYS[12],
}
local id, token, attempt, outcome, reason = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local delay, park, throttled, lease = num(ARGV[6]), ARGV[7] == '1', ARGV[8] == '1', num(ARGV[9])
local entry, detail, horizon = ARGV[10], ARGV[11], num(ARGV[12])
local rec = K.recs .. id
local results = {sent = 1, retry = 2, queued = 3, dead = 4, cancelled = 5}
local now = now_ms()

local r = redis.call('HMGET', rec, 't', 'a', 's', 'd', 'x', 'h')
if r[1] ~= token or r[2] ~= attempt or not (r[3] == 'sending' or results[r[3]]) then
  count(K, 'stale', 1, now)
  return 0
end
if r[3] ~= 'sending' then return results[r[3]] end
local destination = r[4]

redis.call('ZREM', K.processing, id)
redis.call('ZREM', K.inflights .. destination, id)
redis.call('HSET', rec, 'h', (r[6] and r[6] ~= '' and r[6] .. ',' or '') .. entry, 'e', detail)
redis.call('HSET', K.dests .. destination, 'last', now .. ' ' .. (reason == '' and 'sent' or reason))
-- A slot of a full destination is free again.
if redis.call('HDEL', K.dests .. destination, 'full') == 1 then
  redis.call('HDEL', K.dests .. destination, 'hold')
  to_ring(K, destination, horizon, now)
end
if outcome ~= 'retry' then
  finish(K, id, destination, outcome, reason, now)
  return results[outcome]
end
if r[5] then
  finish(K, id, destination, 'cancelled', 'cancelled', now)
  return results.cancelled
end
count(K, throttled and 'throttled' or 'retried', 1, now)
redis.call('HINCRBY', rec, throttled and 'th' or 'r', 1)
redis.call('HSET', rec, 's', park and 'queued' or 'retry', 'due', now + delay, 'o', reason)
if park then
  to_lane(K, destination, id, now + delay, horizon)
  return results.queued
end
redis.call('ZADD', K.processing, now + delay + lease, id)
return results.retry
