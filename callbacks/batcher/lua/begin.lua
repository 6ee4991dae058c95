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
-- KEYS[10] suspects     requests in flight of callbacks that have crashed
-- KEYS[11] trial        the one callback whose last try this is
-- KEYS[12] places       callbacks in flight or claimed, by when they take a place of such
-- KEYS[13] sent         sent and cancelled records
-- KEYS[14] dead         dead letters
-- KEYS[15] lane:        lanes
-- KEYS[16] ring         destinations with something waiting
-- KEYS[17] unproven     destinations with something waiting that have not answered lately
-- ARGV[1] id
-- ARGV[2] token         of the claim
-- ARGV[3] nonce         random, of this call
-- ARGV[4] lease         ms of the attempt's lease
-- ARGV[5] stagger       ms between two sends, 0: none
-- ARGV[6] interval      ms between two sends to one destination, 0: none
-- ARGV[7] adaptive      1: both as they have adapted, 0: as given
-- ARGV[8] concurrency   most requests in flight to one destination, 0: no limit
-- ARGV[9] max_wait      ms that the caller may sleep until its instant
-- ARGV[10] late         ms after its instant from which a caller needs a new one
-- ARGV[11] last         crashes that leave a callback one try, which it makes alone
-- ARGV[12] longest      ms, the longest stagger or interval that there can be
-- ARGV[13] place         1: the caller has a place for a destination that has not answered lately or
--   hangs
-- Returns {1, wait, attempt, retries, throttled, crashes, probe, now, request, overdue}: go after
--   `wait` ms, the attempt is counted, overdue: ms from its instant after which it takes a place of
--   those for destinations that have not answered lately, 0: it does at once; {2, due, why}: later,
--   release it until then (why 1 paused, 2 on hold, 3 its destination is full, 4 the pace, 5 others
--   that have crashed are in flight, 6 it needs a place that its caller has not); {3, wait}: not
--   due for so many ms, send another message; {4}: past its life; {0}: a stale token, or cancelled
--   while its process was stopped; {5}: begun already, or begun past its lease while another has its
--   place in flight; {6, wait}: too long before its slot, or its trial waits for others in flight,
--   ask again in so many ms.
-- Twice: the same nonce gets the same answer while the attempt lasts. Where its instant has passed
--   unused (its process was stopped, say), it gets a new one, or where that is too far ahead {2},
--   and the attempt has not taken place; but once only, then it goes late.
-- Cost: O(log n).
-- @uses instant
-- @uses last_try
local K = {
  recs = KEYS[1], cbs = KEYS[2], processing = KEYS[3], expiry = KEYS[4], state = KEYS[5],
  dests = KEYS[6], inflights = KEYS[7], counters = KEYS[8], rates = KEYS[9], suspects = KEYS[10],
  trial = KEYS[11], places = KEYS[12], sent = KEYS[13], dead = KEYS[14],
  lanes = KEYS[15], ring = KEYS[16], unproven = KEYS[17],
}
local id, token, nonce, lease = ARGV[1], ARGV[2], ARGV[3], num(ARGV[4])
local set_stagger, set_interval, adaptive = num(ARGV[5]), num(ARGV[6]), ARGV[7] == '1'
local concurrency, max_wait, late = num(ARGV[8]), num(ARGV[9]), num(ARGV[10])
local has_place = ARGV[13] == '1'
local now = now_ms()

local r = redis.call('HMGET', K.recs .. id, 't', 's', 'd', 'due', 'a', 'r', 'th', 'c', 'bn', 'at', 'p', 'u', 'end', 'x')
local phase, destination, due = r[2], r[3], num(r[4], now)
if r[1] ~= token or not (phase == 'claimed' or phase == 'retry' or phase == 'sending') then
  count_stale(K, now)
  return {0}
end
if phase == 'sending' and r[9] ~= nonce then return {5} end
if due - now > max_wait then return {3, due - now} end

local s = redis.call('HMGET', K.state, 'paused', 'send', 'stagger')
local d = redis.call(
  'HMGET', K.dests .. destination, 'paused', 'hold', 'send', 'interval', 'ok', 'broken', 'latency'
)
local stagger = pace_of(s[3], set_stagger, adaptive)
local interval = pace_of(d[4], set_interval, adaptive)
local paces = {
  now = now, due = due, max_wait = max_wait, longest = num(ARGV[12]),
  send = s[2], stagger = stagger, own_send = d[3], interval = interval,
}
local inflight = K.inflights .. destination
local crashes, last, unproven = num(r[8], 0), num(ARGV[11]), is_unproven(d[5], d[6])
local needs_place = unproven or is_stalled(K, destination, now, d[7])

-- Reserve an instant, send and lease: the writes of a begin, and of a begin again.
local function go(at, attempt)
  local expires = at + lease
  redis.call('ZREM', inflight, id)
  redis.call('ZADD', inflight, expires, id)
  redis.call('PEXPIRE', inflight, 86400000)
  redis.call('ZADD', K.processing, -expires, id)
  redis.call('ZADD', K.places, needs_place and now or overdue_from(at, d[7]), id)
  LastTry.enter(K, id, crashes, last, expires)
  redis.call('HSET', K.recs .. id, 's', 'sending', 'a', attempt, 'at', at, 'bn', nonce)
  redis.call('HSET', K.state, 'send', at + stagger)
  redis.call('HSET', K.dests .. destination, 'send', at + interval)
  if not d[1] then keep_dest(K.dests .. destination, num(d[2], 0), now) end
  if phase ~= 'sending' and not r[12] then count(K, 'attempts', 1, now) end
end
-- Undo that: it is claimed, as before, until its caller releases it. `u`: it has been counted.
local function give_up(attempts)
  redis.call('ZREM', inflight, id)
  redis.call('ZREM', K.places, id)
  redis.call('ZADD', K.processing, due, id)
  if r[13] then end_of_life(K, id, r[13]) end
  LastTry.leave(K, id)
  redis.call('HDEL', K.recs .. id, 'at', 'bn')
  redis.call('HSET', K.recs .. id, 's', 'claimed', 'a', attempts, 'u', 1)
end
local function full()
  redis.call('ZREMRANGEBYSCORE', inflight, '-inf', now)
  -- One at a time to whoever has not answered well yet, or is tried again after faults.
  return concurrency > 0 and redis.call('ZCARD', inflight) >= (unproven and 1 or concurrency)
end
local function answer(wait, attempt)
  local request = redis.call('GET', K.cbs .. id)
  local probe = r[11] and 1 or 0
  local overdue = needs_place and 0 or overdue_from(0, d[7])
  return {1, wait, attempt, num(r[6], 0), num(r[7], 0), crashes, probe, now, request, overdue}
end

if phase == 'sending' then
  local at, attempt = num(r[10], now), num(r[5], 1)
  if r[14] and now - at > late then  -- its request was never made, and is wanted no more
    LastTry.leave(K, id)
    redis.call('HDEL', K.recs .. id, 't')
    finish(K, id, destination, 'cancelled', 'cancelled', now)
    end_own_hold(K, destination, r[11])
    to_ring(K, destination, 0, now)
    count_stale(K, now)
    return {0}
  end
  if at + lease <= now and (crashes > 0 or full()) then return {5} end
  if now - at > late then
    local anew, far = Instant.next(paces, at)
    if far and not r[12] then
      give_up(attempt - 1)
      return {2, anew, 4}
    elseif not far then
      at = anew
      go(at, attempt)
    end
  end
  return answer(math.max(0, at - now), attempt)
end
if num(redis.call('ZSCORE', K.expiry, id), 0) <= now and not is_held(K, now) then return {4} end
if s[1] or d[1] then return {2, now, 1} end
if host_paused(K, destination) then return {2, now, 1} end
local hold = num(d[2], 0)
local why = hold > now and redis.call('HGET', K.dests .. destination, 'why')
if d[6] and not r[11] then return {2, math.max(now, hold), 2} end
if why == 'park' or why == 'secret' then return {2, hold, 2} end
if needs_place and not has_place then return {2, now, 6} end
local trial = LastTry.waits(K, id, crashes, last, lease, now)
if trial == 'other' then return {2, now + 1000, 5} end
if trial == 'own' then return {6, 200} end  -- those in flight end within a lease
-- A reservation counts as in flight. Where sends follow each other closely, one that is made
-- long before its slot would keep the next one's place.
if concurrency > 0 and due - now > 10 and math.max(stagger, interval) < 100 then
  return {6, due - now - 5}
end
if full() then return {2, now, 3} end
local at, far = Instant.next(paces, -math.huge)
if far then return {2, at, 4} end
go(at, num(r[5], 0) + 1)
return answer(at - now, num(r[5], 0) + 1)
