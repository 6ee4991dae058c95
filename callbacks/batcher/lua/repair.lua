-- Repair one callback that an audit has found: put it into the one structure where it belongs.
--
-- @keys rec: cb: lane: ring dest: processing expiry sent dead inflight: counters rate:
-- @keys unproven places
-- @arg id text
-- @arg hint text: destination to look in if its record and request name none
-- @arg max_age ms: after which it expires if its end of life is lost
-- @arg window ms: how long before its next slot a destination is claimed from
-- Returns its state: queued, processing, sent, cancelled, dead, or forgotten if only an index entry
--   was left.
-- What can still be sent is never ended: while its request is kept, it is final only if record and
-- index agree. Without a request it is dead as `crashed`: an accepted callback does not vanish.
-- Twice: the second finds it where it belongs and changes nothing.
-- Cost: O(log n).
-- One file: the cases exclude each other in this order, and share what was read.
local r = read_record(
  id, 'phase', 'destination', 'due', 'ended_at', 'ends_at', 'is_cancelled', 'begun_at'
)
local kept = redis.call('EXISTS', K.cbs .. id) == 1
local name = destination_of(id, r.destination) or hint
local phase = r.phase or (kept and 'queued')
local lane = redis.call('ZSCORE', K.lanes .. name, id)
local is_final = phase == 'sent' or phase == 'cancelled' or phase == 'dead'
local index = phase == 'dead' and K.dead or K.sent
local place = redis.call('ZSCORE', K.processing, id)

-- Remove it from every structure except `but`.
local function only_in(but)
  if hint ~= '' and (but ~= 'lane' or hint ~= name) then leave_lane(hint, id) end
  if but ~= 'lane' then leave_lane(name, id) end
  for _, key in ipairs({K.processing, K.expiry, K.sent, K.dead}) do
    local live = key == K.expiry and (but == 'lane' or but == K.processing)
    if key ~= but and not live then redis.call('ZREM', key, id) end
  end
  if phase ~= 'sending' or but ~= K.processing then redis.call('ZREM', K.inflights .. name, id) end
  if but ~= K.processing then redis.call('ZREM', K.places, id) end
end

local function live_on()
  if not redis.call('ZSCORE', K.expiry, id) then
    redis.call('ZADD', K.expiry, num(r.ends_at, now + max_age), id)
  end
end

redis.call('ZREM', K.processing, '')  -- a removal first: a full Redis lets the rest pass
local stands = is_final and redis.call('ZSCORE', index, id)
if phase == 'sent' or phase == 'cancelled' then
  if stands or not kept then
    only_in(K.sent)
    redis.call('DEL', K.cbs .. id)
    if not stands then redis.call('ZADD', K.sent, num(r.ended_at, now), id) end
    return phase
  end
elseif phase == 'dead' and (stands or not kept or not (lane or place)) then
  only_in(K.dead)
  if not stands then redis.call('ZADD', K.dead, num(r.ended_at, now), id) end
  if not kept then set_record(id, 'detail', 'its request is gone from Redis') end
  return phase
end
if not kept then
  local waits = lane or place or redis.call('ZSCORE', K.expiry, id)
  if not (waits or r.phase) then
    only_in('')
    return 'forgotten'
  end
  only_in('')
  clear_record(id, 'token')
  set_record(id, 'detail', 'its request is gone from Redis')
  finish(id, name, 'dead', 'crashed')
  return 'dead'
end
if r.is_cancelled and not (place and phase == 'sending') then
  only_in('')
  clear_record(id, 'token')
  finish(id, name, 'cancelled', 'cancelled')
  return 'cancelled'
end
local is_claimed = phase == 'claimed' or phase == 'sending' or phase == 'retry'
if place and is_claimed then
  only_in(K.processing)
  live_on()
  local begun, at = phase == 'sending', num(place)
  if begun and at >= 0 then  -- its lease is that of its request in flight
    local ends = num(redis.call('ZSCORE', K.inflights .. name, id), now)
    redis.call('ZADD', K.processing, -ends, id)
  end
  if not begun and at < 0 then redis.call('ZADD', K.processing, num(r.due, now), id) end
  return 'processing'
end
only_in('lane')
live_on()
clear_record(
  id, 'token', 'woken_at', 'nonce', 'begun_at', 'is_probe', 'is_counted', 'unsigned', 'ends_at',
  'reason', 'ended_at'
)
if r.phase then set_record(id, 'phase', 'queued', 'destination', name) end
to_lane(name, id, num(lane, math.min(num(r.due, now), now)), window)
return 'queued'
