-- Move one batch QUEUE -> PROCESSING and give each callback its slot; destinations take turns.
--
-- @keys lock state ring lane: dest: rec: processing claimed destinations inflight: gone cb:
-- @keys expiry sent dead counters rate: unproven places tried
-- @arg owner text: token of the dispatcher
-- @arg fence text: number that came with the lock
-- @arg nonce text: random token of this claim
-- @arg most number: most callbacks of this step
-- @arg horizon ms: how far ahead a slot may lie
-- @arg min_interval ms: from one batch to the next
-- @arg flow_interval ms: from one batch to the next while callbacks keep coming
-- @arg stagger ms: between two slots, 0: none
-- @arg interval ms: between two slots of one destination, 0: none
-- @arg adaptive flag: use both as adapted, else as given
-- @arg concurrency number: most requests in flight to one destination, 0: no limit
-- @arg claim_lease ms: a callback this long past its slot is taken back
-- @arg begun_lease ms: the lease of an attempt, shorter than `claim_lease`
-- @arg look_ahead ms: how far ahead the next batch is armed
-- @arg window ms: how long before its next slot a destination is claimed from
-- @arg late ms: a claimed callback this long past its slot counts as late
-- @arg longest ms: the longest possible stagger
-- @arg batch_size number: most callbacks of a batch
-- @arg is_first flag: the first step of its batch, which keeps `min_interval` to the batch before
-- @arg has_more flag: if this step is full, another one follows
-- @arg slots number: slots given to this claim out of those of all shards, see `grant`; -1: it
--   keeps the stagger by itself
-- @arg slot_ahead ms: until the first of them; a later step goes on after the step before
-- @arg slot_every ms: between two of them; where there are none, after which to ask again
-- Returns {code, now, arm, id, token, slot, id, token, slot, ...}: code 1 claimed (perhaps
--   nothing), 0 paused, 2 too early, 3 the workers do not keep up, 4 they are busy, 5 all slots are
--   other shards', -1 the lock is lost; arm: ms until the next trigger, which this caller has to
--   send, or -1. Times in ms. A token ends in `u` if its destination is unproven or hangs: its
--   sender needs one of the places for these.
-- Twice: the same nonce gets the same batch; nothing is claimed again.
-- Cost: O(batch * log n), however much waits, plus at most 100 for callbacks whose URL is gone. If
-- most destinations have no slot yet, O(batch^2) steps of Lua.
-- One file: one transaction, half of it interface; the turns are in parts/turns.
if redis.call('GET', K.lock) ~= owner .. ':' .. fence then return {-1, now, -1} end
local before = redis.call('GET', K.claimed)
if before and string.sub(before, 1, #nonce) == nonce then
  return cjson.decode(string.sub(before, #nonce + 1))
end
local s = read_hash(
  K.state, 'paused', 'slot', 'send', 'last_batch', 'batch_before', 'stagger', 'next_batch',
  'unproven_most', 'threads', 'pause_at', 'pause_end'
)
-- This is that trigger.
if num(s.next_batch, 0) <= now then redis.call('HDEL', K.state, 'next_batch') end
if s.paused then return {0, now, -1} end
stagger = pace_of(s.stagger, stagger, adaptive)

-- Ask for the next trigger at the earliest useful time, if anything will be ready by then. Unproven
-- destinations without a place are not: the answer that frees one asks again.
local function arm(earliest)
  local first = num(redis.call('ZRANGE', K.ring, 0, 0, 'WITHSCORES')[2], math.huge)
  if unproven_room() > 0 then first = math.min(first, first_unproven()) end
  if first == math.huge then return -1 end
  return arm_trigger(math.max(earliest, first), look_ahead)
end

local last = num(s.last_batch, 0)
if is_first and now < last + min_interval and now >= last then
  return {2, now, arm(last + min_interval)}
end
-- Ask again later. Stored for all: else each settle until then sends a trigger that finds the same.
local function come_back(code, wait)
  redis.call('HDEL', K.state, 'earliest')
  redis.call('HSET', K.state, 'earliest', now + wait)
  return {code, now, arm(now + wait)}
end
local lagging = redis.call('ZCOUNT', K.processing, now - claim_lease, now - late)
if lagging > batch_size then return come_back(3, math.max(min_interval, 500)) end

if slots == 0 then return come_back(5, slot_every) end

redis.call('ZREM', K.processing, '')  -- a removal first: a full Redis lets the rest pass
local c = {
  most = most, concurrency = concurrency, set_interval = interval,
  adaptive = adaptive, any_gone = redis.call('EXISTS', K.gone) == 1, buried = 0,
  short = are_places_short(s.unproven_most),
}
local limit, furthest = now + horizon, horizon + longest
local slot = math.max(now, reserved(s.slot, furthest), reserved(s.send, furthest))
if slots > 0 then
  stagger, slot = slot_every, is_first and now + slot_ahead or math.max(now, num(s.slot, 0))
  redis.call('HSET', K.state, 'stagger', stagger * 1000)  -- for `demand`
end
if stagger == 0 then slot = now end
local free = most
if stagger > 0 then free = math.min(most, math.floor((limit - slot) / stagger) + 1) end
if slots > 0 then free = math.min(free, slots) end
local room = unproven_room()
local touched, seen, proven, unproven = {}, {}, Line.new(free), Line.new(room)
local function line_up(ring, destinations)
  if destinations <= 0 then return end
  for _, name in ipairs(redis.call('ZRANGEBYSCORE', ring, '-inf', now, 'LIMIT', 0, destinations)) do
    -- A process of an older release may have put it into both rings: it has one turn.
    local turn = not seen[name] and Turn.new(name, ring, c)
    seen[name], touched[#touched + 1] = true, turn or nil
    if turn and turn.most > 0 then (turn.needs_place and unproven or proven):add(turn) end
  end
end
line_up(K.ring, free)
line_up(K.unproven, math.min(free, room))
if num(s.threads, 0) > 0 then
  local startable = startable_of(s.threads, touched, min_interval + 250, batch_size)
  if startable <= 0 then return come_back(4, math.max(min_interval, 100)) end
  if stagger == 0 then free = math.min(free, startable) end
end
-- While both kinds wait, slots reach only to the next batch: else one kind fills the schedule to
-- its horizon while the other waits.
local first = redis.call('ZRANGE', K.ring, 0, 0, 'WITHSCORES')[2]
if unproven.last > 0 and num(first, math.huge) < math.huge then
  limit = math.min(limit, now + window)
end
c.share = math.max(1, math.ceil(free / math.max(1, proven.last + unproven.last)))
local picked
picked, slot = deal(proven, unproven, slot, stagger, free, limit, now + window)

local leases, places, answer = {}, {}, {1, now, -1}
local on, off = {[K.ring] = {}, [K.unproven] = {}}, {[K.ring] = {}, [K.unproven] = {}}
local w = {on = on, off = off, used = {}, asked = {}}
-- How a callback came to be claimed, see `keys`. Most of it is the same for a whole batch.
local batch_before = is_first and s.last_batch or s.batch_before or 0
local this_batch = ' ' .. now .. ' ' .. batch_before
local function waited(due, turn)
  if not (turn.hold_at or s.pause_at) then return due .. this_batch end
  local held = held_within(num(due), now, K.dests .. turn.name, turn.hold_at, s)
  return due .. this_batch .. ' ' .. held
end
for i, pick in ipairs(picked) do
  local id, turn, at, due = pick[1], pick[2], pick[3], pick[4]
  local token = nonce .. '.' .. i .. (turn.needs_place and 'u' or '')
  leases[2 * i - 1], leases[2 * i] = at, id
  if turn.needs_place then places[#places + 1], places[#places + 2] = now, id end
  set_record(
    id, 'phase', 'claimed', 'destination', turn.name, 'token', token, 'due', at,
    'waited', waited(due, turn)
  )
  if turn.probe then set_record(id, 'is_probe', 1) end
  answer[#answer + 1], answer[#answer + 2], answer[#answer + 3] = id, token, at
end
for _, turn in ipairs(touched) do turn:done(begun_lease, window, w) end
in_steps('ZADD', K.processing, leases)
in_steps('ZADD', K.destinations, w.used)
in_steps('ZADD', K.places, places)
in_steps('ZADD', K.tried, w.asked)
for _, ring in ipairs({K.ring, K.unproven}) do
  in_steps('ZREM', ring, w.off[ring])
  in_steps('ZADD', ring, w.on[ring])
end
redis.call('HSET', K.state, 'next_batch', 0)
local earliest = now + min_interval
if stagger > 0 then earliest = math.max(earliest, slot - horizon) end
if #picked > 0 or c.buried > 0 then  -- the next tick reports those that died here
  redis.call(
    'HSET', K.state, 'slot', slot, 'last_batch', now, 'batch_before', batch_before,
    'earliest', earliest
  )
end

-- While callbacks keep coming, the next batch is armed even if none waits now.
if not (has_more and #picked == most) then
  answer[3] = arm(earliest)
  if answer[3] < 0 and #picked * 8 >= batch_size then
    answer[3] = arm_trigger(math.max(earliest, now + flow_interval), look_ahead)
  end
end
redis.call('SET', K.claimed, nonce .. cjson.encode(answer), 'PX', 60000)
return answer
