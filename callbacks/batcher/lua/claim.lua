-- Move one batch QUEUE -> PROCESSING and give each callback its slot; destinations take turns.
--
-- @keys lock state ring lane: dest: rec: processing claimed destinations inflight: gone cb:
-- @keys expiry sent dead counters rate: unproven places tried
-- @arg owner text: token of the dispatcher
-- @arg fence text: number that came with the lock
-- @arg nonce text: random token of this claim
-- @arg most number: most callbacks of this step
-- @arg horizon ms: that a slot may lie ahead
-- @arg min_interval ms: from one batch to the next
-- @arg flow_interval ms: from one batch to the next while callbacks keep coming
-- @arg stagger ms: between two slots, 0: none
-- @arg interval ms: between two slots of one destination, 0: none
-- @arg adaptive flag: both as they have adapted, else as given
-- @arg concurrency number: most requests in flight to one destination, 0: no limit
-- @arg claim_lease ms: past its slot at which a callback is taken back
-- @arg begun_lease ms: of an attempt's lease, shorter than `claim_lease`
-- @arg look_ahead ms: within which the next batch is armed
-- @arg window ms: ahead of its next slot that a destination is claimed from
-- @arg late ms: past its slot from which a claimed callback counts as late
-- @arg longest ms: the longest stagger that there can be
-- @arg batch_size number: most callbacks of a batch
-- @arg is_first flag: the first step of its batch, which keeps its distance to the one before
-- @arg has_more flag: where this step is full, another one follows
-- Returns {code, now, arm, id, token, slot, id, token, slot, ...}: code 1 claimed (perhaps nobody),
--   0 paused, 2 too early, 3 the workers do not keep up, 4 they are busy, -1 the lock is lost; arm: ms
--   until the next trigger, to be sent by this caller, or -1. Times in ms. A token ends in `u` where its destination
--   has not answered lately or hangs: its sender needs a place of those that are for such.
-- Twice: the same nonce gets the same batch; nothing is claimed again.
-- Cost: O(batch * log n), whatever waits; at most 100 more for what is gone. Where most of the
-- destinations have no slot yet, O(batch^2) steps of Lua.
if redis.call('GET', K.lock) ~= owner .. ':' .. fence then return {-1, now, -1} end
local before = redis.call('GET', K.claimed)
if before and string.sub(before, 1, #nonce) == nonce then
  return cjson.decode(string.sub(before, #nonce + 1))
end
local s = read_hash(
  K.state, 'paused', 'slot', 'send', 'last_batch', 'stagger', 'next_batch', 'unproven_most', 'threads'
)
if num(s.next_batch, 0) <= now then redis.call('HDEL', K.state, 'next_batch') end  -- this is that trigger
if s.paused then return {0, now, -1} end
stagger = pace_of(s.stagger, stagger, adaptive)

-- Ask for the next trigger at the earliest useful time, if anything will be ready by then. Those
-- that have not answered lately and find no place are not: the answer that frees one asks again.
local function arm(earliest)
  local first = num(redis.call('ZRANGE', K.ring, 0, 0, 'WITHSCORES')[2], math.huge)
  if unproven_room() > 0 then first = math.min(first, first_unproven()) end
  if first == math.huge then return -1 end
  return arm_trigger(math.max(earliest, first), look_ahead)
end

local last = num(s.last_batch, 0)
if is_first and now < last + min_interval and now >= last then return {2, now, arm(last + min_interval)} end
-- Ask again later. Said to all: else each settle in the meantime sends a trigger that finds the same.
local function come_back(code, wait)
  redis.call('HDEL', K.state, 'earliest')
  redis.call('HSET', K.state, 'earliest', now + wait)
  return {code, now, arm(now + wait)}
end
local lagging = redis.call('ZCOUNT', K.processing, now - claim_lease, now - late)
if lagging > batch_size then return come_back(3, math.max(min_interval, 500)) end

redis.call('ZREM', K.processing, '')  -- a removal first: a full Redis lets the rest pass
local c = {
  most = most, concurrency = concurrency, set_interval = interval,
  adaptive = adaptive, any_gone = redis.call('EXISTS', K.gone) == 1, buried = 0,
  short = are_places_short(s.unproven_most),
}
local limit, furthest = now + horizon, horizon + longest
local slot = math.max(now, reserved(s.slot, furthest), reserved(s.send, furthest))
if stagger == 0 then slot = now end
local free = most
if stagger > 0 then free = math.min(most, math.floor((limit - slot) / stagger) + 1) end
local room = unproven_room()
local touched, seen, proven, unproven = {}, {}, Line.new(free), Line.new(room)
local function line_up(ring, destinations)
  if destinations <= 0 then return end
  for _, name in ipairs(redis.call('ZRANGEBYSCORE', ring, '-inf', now, 'LIMIT', 0, destinations)) do
    -- In both rings stands what a process of an older release has put there: it has one turn.
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
-- While both wait, none is given slots further ahead than until the next batch: else one kind fills
-- the schedule to its horizon while the other waits for its turn.
local first = redis.call('ZRANGE', K.ring, 0, 0, 'WITHSCORES')[2]
if unproven.last > 0 and num(first, math.huge) < math.huge then limit = math.min(limit, now + window) end
c.share = math.max(1, math.ceil(free / math.max(1, proven.last + unproven.last)))
local picked
picked, slot = deal(proven, unproven, slot, stagger, free, limit, now + window)

local leases, places, answer = {}, {}, {1, now, -1}
local w = {on = {[K.ring] = {}, [K.unproven] = {}}, off = {[K.ring] = {}, [K.unproven] = {}}, used = {}, asked = {}}
for i, pick in ipairs(picked) do
  local id, turn, at = pick[1], pick[2], pick[3]
  local token = nonce .. '.' .. i .. (turn.needs_place and 'u' or '')
  leases[2 * i - 1], leases[2 * i] = at, id
  if turn.needs_place then places[#places + 1], places[#places + 2] = now, id end
  set_record(id, 'phase', 'claimed', 'destination', turn.name, 'token', token, 'due', at)
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
if #picked > 0 then
  redis.call('HSET', K.state, 'slot', slot, 'last_batch', now, 'earliest', earliest)
end

-- While callbacks keep coming, the next batch is armed although none waits at this moment.
if not (has_more and #picked == most) then
  answer[3] = arm(earliest)
  if answer[3] < 0 and #picked * 8 >= batch_size then
    answer[3] = arm_trigger(math.max(earliest, now + flow_interval), look_ahead)
  end
end
redis.call('SET', K.claimed, nonce .. cjson.encode(answer), 'PX', 60000)
return answer
