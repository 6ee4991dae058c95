-- Give a begun attempt back for want of a secret: nothing was sent, it has not taken place.
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
-- KEYS[14] suspects     requests in flight of callbacks that have crashed
-- KEYS[15] trial        the one callback whose last try this is
-- KEYS[16] unproven     destinations with something waiting that have not answered lately
-- KEYS[17] places       callbacks in flight or claimed, by when they take a place of such
-- ARGV[1] id
-- ARGV[2] token         of the claim
-- ARGV[3] attempt       from begin
-- ARGV[4] detail        what the resolver did, for people
-- ARGV[5] hold_min      ms for which it waits at first, doubling
-- ARGV[6] hold_max      ms for which it waits at most
-- ARGV[7] window        ms ahead of its next slot that a destination is claimed from
-- ARGV[8] look_ahead    ms within which the next batch is armed
-- Returns {code, arm, wait}: code 3 waits in its lane for `wait` ms, 5 cancelled meanwhile, 0: a stale
--   token or attempt, nothing changed. arm: ms until the next trigger, to be sent by this caller, or
--   -1.
-- Twice: the token ends with it, so the second changes nothing.
-- Cost: O(log n).
-- @uses last_try
local K = {
  processing = KEYS[1], recs = KEYS[2], cbs = KEYS[3], expiry = KEYS[4], sent = KEYS[5],
  dead = KEYS[6], inflights = KEYS[7], lanes = KEYS[8], ring = KEYS[9], dests = KEYS[10],
  counters = KEYS[11], rates = KEYS[12], state = KEYS[13], suspects = KEYS[14], trial = KEYS[15],
  unproven = KEYS[16], places = KEYS[17],
}
local id, token, detail = ARGV[1], ARGV[2], ARGV[4]
local hold_min, hold_max, window, look_ahead = num(ARGV[5]), num(ARGV[6]), num(ARGV[7]), num(ARGV[8])
local now, rec = now_ms(), K.recs .. id
local r = redis.call('HMGET', rec, 't', 'a', 's', 'd', 'x', 'c', 'end', 'p', 'ns')
if r[1] ~= token or r[2] ~= ARGV[3] or r[3] ~= 'sending' then
  count_stale(K, now)
  return {0, -1, 0}
end
local destination = r[4]
local dest = K.dests .. destination

redis.call('ZREM', K.processing, id)
redis.call('ZREM', K.inflights .. destination, id)
redis.call('ZREM', K.places, id)
if r[6] then LastTry.leave(K, id) end
redis.call('HDEL', rec, 't', 'w', 'p', 'at', 'bn')
if r[5] then
  end_own_hold(K, destination, r[8])
  finish(K, id, destination, 'cancelled', 'cancelled', now)
  to_ring(K, destination, window, now)
  return {5, -1, 0}
end
if r[7] then end_of_life(K, id, r[7]) end

local function doubled(times) return math.min(hold_max, hold_min * 2 ^ math.min(times, 30)) end

-- One that fails alone waits alone. Where nothing goes out in between, its destination is held, so
-- that not all of its callbacks are tried in vain; those that began together are one failure.
local d = redis.call('HMGET', dest, 'hold', 'why', 'unsigned', 'paused')
local hold, times = num(d[1], 0), num(d[3], 0)
local held = d[2] == 'secret' and hold > now
local own = d[2] == 'full' or r[8]  -- it was held for this very callback
if own then redis.call('HDEL', dest, 'hold', 'why') end
if times > 0 and not held and (own or hold < now + doubled(times - 1)) then
  redis.call('HSET', dest, 'hold', now + doubled(times - 1), 'why', 'secret')
end
redis.call('HSET', dest, 'unsigned', held and times or times + 1, 'unsigned_at', now)
if not d[4] then keep_dest(dest, num(redis.call('HGET', dest, 'hold'), 0), now) end
redis.call('HSET', K.state, 'unsigned', detail)

-- Its next attempt has been counted already.
local wait = doubled(num(r[9], 0))
local due = now + wait
redis.call('HINCRBY', rec, 'ns', 1)
redis.call('HSET', rec, 's', 'queued', 'due', due, 'a', num(r[2], 1) - 1, 'u', 1, 'o', 'no_secret', 'e', detail)
to_lane(K, destination, id, due, window)
local next_at = math.min(to_ring(K, destination, window, now), first_unproven(K))
if next_at == math.huge then return {3, -1, wait} end
return {3, arm_trigger(K, math.max(now, next_at), now, look_ahead), wait}
