-- The only gate before a request: may this claim's attempt go now, and if so, at which instant?
--
-- @keys rec: cb: processing expiry state dest: inflight: counters rate: suspects trial places
-- @keys sent dead lane: ring unproven
-- @arg id text
-- @arg token text: of the claim
-- @arg nonce text: random, of this call
-- @arg attempt_lease ms: the lease of the attempt
-- @arg stagger ms: between two sends, 0: none
-- @arg interval ms: between two sends to one destination, 0: none
-- @arg adaptive flag: use both as adapted, else as given
-- @arg concurrency number: most requests in flight to one destination, 0: no limit
-- @arg max_wait ms: the longest the caller may sleep until its instant
-- @arg missed ms: how late an instant may be used; after that the caller needs a new one
-- @arg last number: after this many crashes a callback has one try left, which it makes alone
-- @arg longest ms: the longest possible stagger or interval
-- @arg has_place flag: the caller has a place for a destination that is unproven or hangs
-- @arg ahead ms: with a nonce that has begun: the stagger over all shards lets it go then, not
--   before; -1: that is not asked
-- Returns {1, wait, attempt, retries, throttled, crashes, probe, now, request, overdue, due,
--   waited, since}: go after `wait` ms, the attempt is counted, probe: 1 of a breaker that faults
--   opened, 2 refusals, 0 none, overdue: ms from its instant until it takes a place of those for
--   unproven destinations, 0: it does at once, due: its slot or the time of its retry, waited: of
--   its claim, since: when it was given back before (both see `keys`), or empty; {2, due, why}:
--   later, release it until then (why 1 paused, 2 on hold, 3 its destination is full, 4 the pace, 5
--   others that have crashed are in flight, 6 it needs a place and its caller has none); {3, wait}:
--   not due for that many ms, send another message; {4}: past its end of life; {0}: a stale token,
--   or cancelled while its process was stopped; {5}: begun already, or its lease has ended and
--   another has its place in flight; {6, wait}: too long before its slot, or its trial waits for
--   others in flight, ask again in that many ms.
-- Twice: the same nonce gets the same answer while the attempt lasts. If its instant has passed
--   unused (its process was stopped, say) or comes before `ahead`, it gets a new one, or {2} if
--   that is too far ahead, and the attempt has not taken place; but only once: after that it goes
--   late.
-- Cost: O(log n).
-- One file: its checks are one decision; they share their locals, and their order matters.
local r = read_record(
  id, 'token', 'phase', 'destination', 'due', 'attempts', 'retries', 'throttled', 'crashes',
  'nonce', 'begun_at', 'is_probe', 'is_counted', 'ends_at', 'is_cancelled', 'waited', 'since'
)
local phase, destination, due = r.phase, r.destination, num(r.due, now)
if r.token ~= token or not (phase == 'claimed' or phase == 'retry' or phase == 'sending') then
  count_stale()
  return {0}
end
if phase == 'sending' and r.nonce ~= nonce then return {5} end
if due - now > max_wait then return {3, due - now} end

local s = read_hash(K.state, 'paused', 'send', 'stagger', 'unproven_most')
local d = read_hash(
  K.dests .. destination, 'paused', 'hold', 'send', 'interval', 'ok', 'broken', 'latency'
)
stagger = pace_of(s.stagger, stagger, adaptive)
interval = pace_of(d.interval, interval, adaptive)
local paces = {
  due = due, max_wait = max_wait, longest = longest,
  send = s.send, stagger = stagger, own_send = d.send, interval = interval,
}
local inflight = K.inflights .. destination
local crashes, unproven = num(r.crashes, 0), is_unproven(d.ok, d.broken)
local needs_place = unproven
  or (are_places_short(s.unproven_most) and is_stalled(destination, d.latency))

-- The writes of a begin and of a repeated one: the instant, the lease, the attempt.
local function go(at, attempt)
  local expires = at + attempt_lease
  redis.call('ZREM', inflight, id)  -- a removal first: a full Redis lets the rest pass
  redis.call('ZADD', inflight, expires, id)
  redis.call('ZADD', K.processing, -expires, id)
  redis.call('ZADD', K.places, needs_place and now or overdue_from(at, d.latency), id)
  LastTry.enter(id, crashes, last, expires)
  set_record(id, 'phase', 'sending', 'attempts', attempt, 'begun_at', at, 'nonce', nonce)
  if stagger > 0 then redis.call('HSET', K.state, 'send', at + stagger) end
  redis.call('HSET', K.dests .. destination, 'send', at + interval)
  if not (d.send or d.paused) then keep_dest(K.dests .. destination, num(d.hold, 0)) end
  if phase ~= 'sending' and not r.is_counted then count('attempts', 1) end
end
-- Undo that: it is claimed again until its caller releases it. Its next attempt is counted already.
local function give_up(attempts)
  redis.call('ZREM', inflight, id)
  redis.call('ZREM', K.places, id)
  redis.call('ZADD', K.processing, due, id)
  if r.ends_at then end_of_life(id, r.ends_at) end
  LastTry.leave(id)
  clear_record(id, 'begun_at', 'nonce')
  set_record(id, 'phase', 'claimed', 'attempts', attempts, 'is_counted', 1)
end
local function full()
  if concurrency == 0 then return false end
  -- An unproven destination gets one request at a time.
  return redis.call('ZCOUNT', inflight, '(' .. now, '+inf') >= (unproven and 1 or concurrency)
end
local function answer(wait, attempt)
  local request = redis.call('GET', K.cbs .. id)
  local probe = r.is_probe and num(d.broken, 1) or 0
  local overdue = needs_place and 0 or overdue_from(0, d.latency)
  return {
    1, wait, attempt, num(r.retries, 0), num(r.throttled, 0), crashes, probe, now, request, overdue,
    due, r.waited or '', r.since or '',
  }
end

if phase == 'sending' then
  local at, attempt = num(r.begun_at, now), num(r.attempts, 1)
  if r.is_cancelled and now - at > missed then  -- it was never made and is not wanted
    leave_processing(id, destination)
    LastTry.leave(id)
    clear_record(id, 'token')
    finish(id, destination, 'cancelled', 'cancelled')
    end_own_hold(destination, r.is_probe)
    to_ring(destination, 0)
    count_stale()
    return {0}
  end
  if at + attempt_lease <= now and (crashes > 0 or full()) then return {5} end
  if now - at > missed or (ahead >= 0 and now + ahead > at) then
    paces.due = math.max(due, now + ahead)
    local anew, far = Instant.next(paces, at)
    if far and not r.is_counted then
      give_up(attempt - 1)
      return {2, anew, 4}
    elseif not far or ahead >= 0 then
      at = anew
      go(at, attempt)
    end
  end
  return answer(math.max(0, at - now), attempt)
end
if num(redis.call('ZSCORE', K.expiry, id), 0) <= now and not is_held() then return {4} end
if s.paused or d.paused then return {2, now, 1} end
if host_paused(destination) then return {2, now, 1} end
local hold = num(d.hold, 0)
local why = hold > now and redis.call('HGET', K.dests .. destination, 'why')
if d.broken and not r.is_probe then return {2, math.max(now, hold), 2} end
if why == 'park' or why == 'secret' then return {2, hold, 2} end
if needs_place and not has_place then return {2, now, 6} end
local trial = LastTry.waits(id, crashes, last, attempt_lease)
if trial == 'other' then return {2, now + 1000, 5} end
if trial == 'own' then return {6, 200} end  -- those in flight end within a lease
-- A reservation counts as in flight. When sends follow each other closely, one made long before its
-- slot would take the place of the next.
if concurrency > 0 and due - now > 10 and math.max(stagger, interval) < 100 then
  return {6, due - now - 5}
end
if full() then return {2, now, 3} end
local at, far = Instant.next(paces, -math.huge)
if far then return {2, at, 4} end
go(at, num(r.attempts, 0) + 1)
return answer(at - now, num(r.attempts, 0) + 1)
