-- Put one callback right that an audit has named: into the one structure where it belongs.
--
-- KEYS[1] rec:          records
-- KEYS[2] cb:           frozen requests
-- KEYS[3] lane:         lanes
-- KEYS[4] ring          destinations with something waiting
-- KEYS[5] dest:         destinations' own state
-- KEYS[6] processing    PROCESSING
-- KEYS[7] expiry        ends of life
-- KEYS[8] sent          sent and cancelled records
-- KEYS[9] dead          dead letters
-- KEYS[10] inflight:    requests in flight
-- KEYS[11] counters     totals
-- KEYS[12] rate:        totals of each 10 s
-- KEYS[13] unproven     destinations with something waiting that have not answered lately
-- KEYS[14] places       callbacks in flight or claimed, by when they take a place of such
-- ARGV[1] id
-- ARGV[2] lane          where to look for it if it does not say itself
-- ARGV[3] life          ms after which it expires where its end of life is lost
-- ARGV[4] window        ms ahead of its next slot that a destination is claimed from
-- Returns what it is now: queued, processing, sent, cancelled, dead, or forgotten where nothing
--   but an entry of an index was left.
-- What could still be sent is never ended: with its request it is final only where record and
-- index say so both. Without one it is dead as `crashed`, for an accepted callback does not vanish.
-- Twice: the second finds it where it belongs and changes nothing.
-- Cost: O(log n).
local K = {
  recs = KEYS[1], cbs = KEYS[2], lanes = KEYS[3], ring = KEYS[4], dests = KEYS[5],
  processing = KEYS[6], expiry = KEYS[7], sent = KEYS[8], dead = KEYS[9], inflights = KEYS[10],
  counters = KEYS[11], rates = KEYS[12], unproven = KEYS[13], places = KEYS[14],
}
local id, hint, life, window = ARGV[1], ARGV[2], num(ARGV[3]), num(ARGV[4])
local rec, now = K.recs .. id, now_ms()
local r = redis.call('HMGET', rec, 's', 'd', 'due', 'f', 'end', 'x', 'at')
local kept = redis.call('EXISTS', K.cbs .. id) == 1
local name = destination_of(K, id, r[2]) or hint
local phase = r[1] or (kept and 'queued')
local lane = redis.call('ZSCORE', K.lanes .. name, id)
local is_final = phase == 'sent' or phase == 'cancelled' or phase == 'dead'
local index = phase == 'dead' and K.dead or K.sent
local place = redis.call('ZSCORE', K.processing, id)

-- Everywhere but in `but`.
local function only_in(but)
  if hint ~= '' and (but ~= 'lane' or hint ~= name) then leave_lane(K, hint, id) end
  if but ~= 'lane' then leave_lane(K, name, id) end
  for _, key in ipairs({K.processing, K.expiry, K.sent, K.dead}) do
    local live = key == K.expiry and (but == 'lane' or but == K.processing)
    if key ~= but and not live then redis.call('ZREM', key, id) end
  end
  if phase ~= 'sending' or but ~= K.processing then redis.call('ZREM', K.inflights .. name, id) end
  if but ~= K.processing then redis.call('ZREM', K.places, id) end
end

local function live_on()
  if not redis.call('ZSCORE', K.expiry, id) then
    redis.call('ZADD', K.expiry, num(r[5], now + life), id)
  end
end

redis.call('ZREM', K.processing, '')  -- a removal first: a full Redis lets the rest pass
local stands = is_final and redis.call('ZSCORE', index, id)
if phase == 'sent' or phase == 'cancelled' then
  if stands or not kept then
    only_in(K.sent)
    redis.call('DEL', K.cbs .. id)
    if not stands then redis.call('ZADD', K.sent, num(r[4], now), id) end
    return phase
  end
elseif phase == 'dead' and (stands or not kept or not (lane or place)) then
  only_in(K.dead)
  if not stands then redis.call('ZADD', K.dead, num(r[4], now), id) end
  if not kept then redis.call('HSET', rec, 'e', 'its request is gone from Redis') end
  return phase
end
if not kept then
  local waits = lane or place or redis.call('ZSCORE', K.expiry, id)
  if not (waits or r[1]) then
    only_in('')
    return 'forgotten'
  end
  only_in('')
  redis.call('HDEL', rec, 't')
  redis.call('HSET', rec, 'e', 'its request is gone from Redis')
  finish(K, id, name, 'dead', 'crashed', now)
  return 'dead'
end
if r[6] and not (place and phase == 'sending') then
  only_in('')
  redis.call('HDEL', rec, 't')
  finish(K, id, name, 'cancelled', 'cancelled', now)
  return 'cancelled'
end
local is_claimed = phase == 'claimed' or phase == 'sending' or phase == 'retry'
if place and is_claimed then
  only_in(K.processing)
  live_on()
  local begun, at = phase == 'sending', num(place)
  if begun and at >= 0 then  -- its lease is the one that its request in flight has
    local ends = num(redis.call('ZSCORE', K.inflights .. name, id), now)
    redis.call('ZADD', K.processing, -ends, id)
  end
  if not begun and at < 0 then redis.call('ZADD', K.processing, num(r[3], now), id) end
  return 'processing'
end
only_in('lane')
live_on()
redis.call('HDEL', rec, 't', 'w', 'bn', 'at', 'p', 'u', 'ns', 'end', 'o', 'f')
if r[1] then redis.call('HSET', rec, 's', 'queued', 'd', name) end
to_lane(K, name, id, num(lane, math.min(num(r[3], now), now)), window)
return 'queued'
