-- Move one batch QUEUE -> PROCESSING and give each callback its slot; destinations take turns.
--
-- KEYS[1] lock          the dispatch lock
-- KEYS[2] state         the schedule
-- KEYS[3] ring          destinations with something waiting
-- KEYS[4] lane:         lanes
-- KEYS[5] dest:         destinations' own state
-- KEYS[6] rec:          records
-- KEYS[7] processing    PROCESSING
-- KEYS[8] claimed       the last claim, for a repeat
-- KEYS[9] destinations  all destinations by last use, to ten minutes
-- KEYS[10] inflight:    requests in flight
-- KEYS[11] gone         URLs that answered 410
-- KEYS[12] cb:          frozen requests
-- KEYS[13] expiry       ends of life
-- KEYS[14] sent         sent and cancelled records
-- KEYS[15] dead         dead letters
-- KEYS[16] counters     totals
-- KEYS[17] rate:        totals of each 10 s
-- KEYS[18] unproven     destinations with something waiting that have not answered lately
-- KEYS[19] places       callbacks in flight or claimed, by when they take a place of such
-- KEYS[20] tried        destinations tried lately that had answered before
-- ARGV[1] owner         token of the dispatcher
-- ARGV[2] fence         number that came with the lock
-- ARGV[3] nonce         random token of this claim
-- ARGV[4] most          most callbacks of this step
-- ARGV[5] horizon       ms that a slot may lie ahead
-- ARGV[6] min_interval  ms from one batch to the next
-- ARGV[7] flow_interval ms from one batch to the next while callbacks keep coming
-- ARGV[8] stagger       ms between two slots, 0: none
-- ARGV[9] interval      ms between two slots of one destination, 0: none
-- ARGV[10] adaptive     1: both as they have adapted, 0: as given
-- ARGV[11] concurrency  most requests in flight to one destination, 0: no limit
-- ARGV[12] lease        ms past its slot at which a callback is taken back
-- ARGV[13] begun_lease  ms of an attempt's lease, shorter than `lease`
-- ARGV[14] look_ahead   ms within which the next batch is armed
-- ARGV[15] window       ms ahead of its next slot that a destination is claimed from
-- ARGV[16] late         ms past its slot from which a claimed callback counts as late
-- ARGV[17] longest      ms, the longest stagger that there can be
-- ARGV[18] batch_size   most callbacks of a batch
-- ARGV[19] step         1: the first step of its batch, which keeps its distance to the one before,
--   2: a later one
-- ARGV[20] more         1: where this step is full, another one follows
-- Returns {code, now, arm, id, token, slot, id, token, slot, ...}: code 1 claimed (perhaps nobody),
--   0 paused, 2 too early, 3 the workers are saturated, -1 the lock is lost; arm: ms until the next
--   trigger, to be sent by this caller, or -1. Times in ms. A token ends in `u` where its destination
--   has not answered lately or hangs: its sender needs a place of those that are for such.
-- Twice: the same nonce gets the same batch; nothing is claimed again.
-- Cost: O(batch * log n), whatever waits; at most 100 more for what is gone. Where most of the
-- destinations have no slot yet, O(batch^2) steps of Lua.
-- @uses turns
local K = {
  lock = KEYS[1], state = KEYS[2], ring = KEYS[3], lanes = KEYS[4], dests = KEYS[5],
  recs = KEYS[6], processing = KEYS[7], claimed = KEYS[8], destinations = KEYS[9],
  inflights = KEYS[10], gone = KEYS[11], cbs = KEYS[12], expiry = KEYS[13], sent = KEYS[14],
  dead = KEYS[15], counters = KEYS[16], rates = KEYS[17], unproven = KEYS[18], places = KEYS[19],
  tried = KEYS[20],
}
local nonce, most, horizon = ARGV[3], num(ARGV[4]), num(ARGV[5])
local batch_size, first_step, more = num(ARGV[18]), ARGV[19] == '1', ARGV[20] == '1'
local min_interval, flow_interval, adaptive = num(ARGV[6]), num(ARGV[7]), ARGV[10] == '1'
local lease, begun_lease, look_ahead = num(ARGV[12]), num(ARGV[13]), num(ARGV[14])
local window = num(ARGV[15])
local now = now_ms()

if redis.call('GET', K.lock) ~= ARGV[1] .. ':' .. ARGV[2] then return {-1, now, -1} end
local before = redis.call('GET', K.claimed)
if before and string.sub(before, 1, #nonce) == nonce then
  return cjson.decode(string.sub(before, #nonce + 1))
end
local s = redis.call('HMGET', K.state, 'paused', 'slot', 'send', 'last_batch', 'stagger', 'next_batch')
if num(s[6], 0) <= now then redis.call('HDEL', K.state, 'next_batch') end  -- this is that trigger
if s[1] then return {0, now, -1} end
local stagger = pace_of(s[5], num(ARGV[8]), adaptive)

-- Ask for the next trigger at the earliest useful time, if anything will be ready by then. Those
-- that have not answered lately and find no place are not: the answer that frees one asks again.
local function arm(earliest)
  local first = num(redis.call('ZRANGE', K.ring, 0, 0, 'WITHSCORES')[2], math.huge)
  if unproven_room(K, now) > 0 then first = math.min(first, first_unproven(K)) end
  if first == math.huge then return -1 end
  return arm_trigger(K, math.max(earliest, first), now, look_ahead)
end

local last = num(s[4], 0)
if first_step and now < last + min_interval and now >= last then return {2, now, arm(last + min_interval)} end
local lagging = redis.call('ZCOUNT', K.processing, now - lease, now - num(ARGV[16]))
if lagging > batch_size then
  -- Said to all: else each settle in the meantime sends a trigger that finds the same.
  local patience = now + math.max(min_interval, 500)
  redis.call('HDEL', K.state, 'earliest')
  redis.call('HSET', K.state, 'earliest', patience)
  return {3, now, arm(patience)}
end

redis.call('ZREM', K.processing, '')  -- a removal first: a full Redis lets the rest pass
local c = {
  now = now, most = most, concurrency = num(ARGV[11]), set_interval = num(ARGV[9]),
  adaptive = adaptive, any_gone = redis.call('EXISTS', K.gone) == 1, buried = 0,
}
local limit, furthest = now + horizon, horizon + num(ARGV[17])
local slot = math.max(now, reserved(s[2], now, furthest), reserved(s[3], now, furthest))
if stagger == 0 then slot = now end
if stagger > 0 then most = math.min(most, math.floor((limit - slot) / stagger) + 1) end
local room = unproven_room(K, now)
local touched, seen, proven, unproven = {}, {}, Line.new(most), Line.new(room)
local function line_up(ring, destinations)
  if destinations <= 0 then return end
  for _, name in ipairs(redis.call('ZRANGEBYSCORE', ring, '-inf', now, 'LIMIT', 0, destinations)) do
    -- In both rings stands what a process of an older release has put there: it has one turn.
    local turn = not seen[name] and Turn.new(K, name, ring, c)
    seen[name], touched[#touched + 1] = true, turn or nil
    if turn and turn.most > 0 then (turn.needs_place and unproven or proven):add(turn) end
  end
end
line_up(K.ring, most)
line_up(K.unproven, math.min(most, room))
-- While both wait, none is given slots further ahead than until the next batch: else one kind fills
-- the schedule to its horizon while the other waits for its turn.
local first = redis.call('ZRANGE', K.ring, 0, 0, 'WITHSCORES')[2]
if unproven.last > 0 and num(first, math.huge) < math.huge then limit = math.min(limit, now + window) end
c.share = math.max(1, math.ceil(most / math.max(1, proven.last + unproven.last)))
local picked
picked, slot = deal(proven, unproven, slot, stagger, most, limit, now + window)

local leases, places, answer = {}, {}, {1, now, -1}
local w = {on = {[K.ring] = {}, [K.unproven] = {}}, off = {[K.ring] = {}, [K.unproven] = {}}, used = {}, asked = {}}
for i, pick in ipairs(picked) do
  local id, turn, at = pick[1], pick[2], pick[3]
  local token = nonce .. '.' .. i .. (turn.needs_place and 'u' or '')
  leases[2 * i - 1], leases[2 * i] = at, id
  if turn.needs_place then places[#places + 1], places[#places + 2] = now, id end
  redis.call('HSET', K.recs .. id, 's', 'claimed', 'd', turn.name, 't', token, 'due', at)
  if turn.probe then redis.call('HSET', K.recs .. id, 'p', 1) end
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
if #picked > 0 then
  redis.call('HSET', K.state, 'slot', slot, 'last_batch', now, 'earliest', earliest)
end

-- While callbacks keep coming, the next batch is armed although none waits at this moment.
if not (more and #picked == num(ARGV[4])) then
  answer[3] = arm(earliest)
  if answer[3] < 0 and #picked * 8 >= batch_size then
    answer[3] = arm_trigger(K, math.max(earliest, now + flow_interval), now, look_ahead)
  end
end
redis.call('SET', K.claimed, nonce .. cjson.encode(answer), 'PX', 60000)
return answer
