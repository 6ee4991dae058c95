-- The only gate before a request: may this claim's attempt go now, and if so, at which instant?
--
-- KEYS[1] rec:          records
-- KEYS[2] cb:           frozen requests
-- KEYS[3] processing    PROCESSING
-- KEYS[4] expiry        ends of life
-- KEYS[5] state         the schedule
-- KEYS[6] dest:         destinations' own state
-- KEYS[7] inflight:     requests in flight
-- KEYS[8] counters      totals
-- KEYS[9] rate:         totals of each 10 s
-- ARGV[1] id
-- ARGV[2] token         of the claim
-- ARGV[3] nonce         random, of this call
-- ARGV[4] lease         ms of the attempt's lease
-- ARGV[5] stagger       ms between two sends, 0: none
-- ARGV[6] interval      ms between two sends to one destination, 0: none
-- ARGV[7] concurrency   most requests in flight to one destination, 0: no limit
-- ARGV[8] max_wait      ms that the caller may sleep until its instant
-- Returns {1, wait, attempt, retries, throttled, crashes, request, now}: go after `wait` ms, the
--   attempt is counted; {2, due, why}: later, release it until then (why 1 paused, 2 on hold,
--   3 its destination is full, 4 the pace); {3, due}: not due yet, a later message will
--   come; {4}: past its life; {0}: a stale token; {5}: begun already.
-- Twice: the same nonce gets the same answer while the attempt lasts.
-- Cost: O(log n).
local K = {
  recs = KEYS[1], cbs = KEYS[2], processing = KEYS[3], expiry = KEYS[4], state = KEYS[5],
  dests = KEYS[6], inflights = KEYS[7], counters = KEYS[8], rates = KEYS[9],
}
local id, token, nonce, lease = ARGV[1], ARGV[2], ARGV[3], num(ARGV[4])
local stagger, interval, concurrency, max_wait = num(ARGV[5]), num(ARGV[6]), num(ARGV[7]), num(ARGV[8])
local now = now_ms()

local r = redis.call('HMGET', K.recs .. id, 't', 's', 'd', 'due', 'a', 'r', 'th', 'c', 'bn', 'at')
local phase, destination, due = r[2], r[3], num(r[4], now)
if r[1] ~= token or not (phase == 'claimed' or phase == 'retry' or phase == 'sending') then
  count(K, 'stale', 1, now)
  return {0}
end
local function go(wait, attempt)
  local request = redis.call('GET', K.cbs .. id)
  return {1, wait, attempt, num(r[6], 0), num(r[7], 0), num(r[8], 0), request, now}
end
if phase == 'sending' then
  if r[9] ~= nonce then return {5} end
  return go(math.max(0, num(r[10], now) - now), num(r[5], 1))
end
if due - now > max_wait then return {3, due} end
if num(redis.call('ZSCORE', K.expiry, id), 0) <= now then return {4} end

local s = redis.call('HMGET', K.state, 'paused', 'send')
local d = redis.call('HMGET', K.dests .. destination, 'paused', 'hold', 'send')
if s[1] or d[1] then return {2, now, 1} end
if num(d[2], 0) > now then return {2, num(d[2], 0), 2} end
local inflight = K.inflights .. destination
redis.call('ZREMRANGEBYSCORE', inflight, '-inf', now)
if concurrency > 0 and redis.call('ZCARD', inflight) >= concurrency then return {2, now, 3} end

-- Both paces free, no burst (GCRA with tolerance 0). An instant is reserved before it comes, so
-- that sends go out evenly however unevenly messages arrive. A wait for the destination alone
-- must stay short, because it holds up the others' instants.
local at = math.max(now, due)
if stagger > 0 then at = math.max(at, num(s[2], 0)) end
local own = interval > 0 and num(d[3], 0) or 0
if own > at and own - at > math.max(stagger, 50) then return {2, own, 4} end
at = math.max(at, own)
if at - now > max_wait then return {2, at, 4} end

local attempt, expires = num(r[5], 0) + 1, at + lease
redis.call('ZADD', K.processing, expires, id)
redis.call('ZADD', inflight, expires, id)
redis.call('PEXPIRE', inflight, 86400000)
redis.call('HSET', K.recs .. id, 's', 'sending', 'a', attempt, 'at', at, 'bn', nonce)
redis.call('HSET', K.state, 'send', at + stagger)
redis.call('HSET', K.dests .. destination, 'send', at + interval)
redis.call('PEXPIRE', K.dests .. destination, 86400000)
count(K, 'attempts', 1, now)
return go(at - now, attempt)
