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
-- KEYS[9] destinations  all destinations by last use
-- ARGV[1] owner         token of the dispatcher
-- ARGV[2] fence         number that came with the lock
-- ARGV[3] nonce         random token of this claim
-- ARGV[4] batch_size    most callbacks
-- ARGV[5] horizon       ms that a slot may lie ahead
-- ARGV[6] min_interval  ms from one batch to the next
-- ARGV[7] stagger       ms between two slots, 0: none
-- ARGV[8] interval      ms between two slots of one destination, 0: none
-- ARGV[9] lease         ms past its slot at which a callback is taken back
-- ARGV[10] begun_lease  ms of an attempt's lease, shorter than `lease`
-- ARGV[11] look_ahead   ms within which the next batch is armed
-- Returns {code, now, arm, id, slot, id, slot, ...}: code 1 claimed (perhaps nobody), 0 paused,
--   2 too early, 3 the workers are saturated, -1 the lock is lost; arm: ms until the next
--   trigger, to be sent by this caller, or -1. Times in ms.
-- Twice: the same nonce gets the same batch; nothing is claimed again.
-- Cost: O(batch * log n), whatever waits.
local K = {
  lock = KEYS[1], state = KEYS[2], ring = KEYS[3], lanes = KEYS[4], dests = KEYS[5],
  recs = KEYS[6], processing = KEYS[7], claimed = KEYS[8], destinations = KEYS[9],
}
local nonce, batch_size, horizon, min_interval = ARGV[3], num(ARGV[4]), num(ARGV[5]), num(ARGV[6])
local stagger, interval, lease = num(ARGV[7]), num(ARGV[8]), num(ARGV[9])
local begun_lease, look_ahead = num(ARGV[10]), num(ARGV[11])
local now = now_ms()

if redis.call('GET', K.lock) ~= ARGV[1] .. ':' .. ARGV[2] then return {-1, now, -1} end
local before = redis.call('GET', K.claimed)
if before and string.sub(before, 1, #nonce) == nonce then
  return cjson.decode(string.sub(before, #nonce + 1))
end
local s = redis.call('HMGET', K.state, 'paused', 'slot', 'send', 'last_batch', 'next_batch')
if s[1] then return {0, now, -1} end

-- Ask for the next trigger at the earliest useful time, if anything will be ready by then.
local function arm(earliest)
  local first = redis.call('ZRANGE', K.ring, 0, 0, 'WITHSCORES')
  local at = math.max(earliest, num(first[2], 0))
  local armed = num(redis.call('HGET', K.state, 'next_batch'), 0)
  if not first[1] or at > now + look_ahead or (armed > now and armed <= at) then return -1 end
  redis.call('HSET', K.state, 'next_batch', at)
  return at - now
end

local last = num(s[4], 0)
if now < last + min_interval and now >= last then return {2, now, arm(last + min_interval)} end
local late = redis.call('ZCOUNT', K.processing, now + begun_lease, now + lease - 1000)
if late > batch_size then return {3, now, arm(now + math.max(min_interval, 500))} end

-- The destinations that may be claimed from, in the ring's order; each knows its next slot.
local slot, limit = math.max(now, num(s[2], 0), num(s[3], 0)), now + horizon
if stagger == 0 then slot = now end
local most = batch_size
if stagger > 0 then most = math.min(most, math.floor((limit - slot) / stagger) + 1) end
local turns = {}
if most > 0 then
  local names = redis.call('ZRANGEBYSCORE', K.ring, '-inf', now, 'LIMIT', 0, most)
  for i, name in ipairs(names) do
    local d = redis.call('HMGET', K.dests .. name, 'slot', 'send')
    turns[i] = {name = name, slot = math.max(num(d[1], 0), num(d[2], 0)), taken = 0, ids = {}}
  end
end
local touched, share = {}, math.max(1, math.ceil(most / math.max(1, #turns)))
for i, turn in ipairs(turns) do touched[i] = turn end

local function next_id(turn)
  if not turn.ids[turn.taken + 1] then
    local more = redis.call('ZRANGEBYSCORE', K.lanes .. turn.name, '-inf', now, 'LIMIT', turn.taken, share)
    for _, id in ipairs(more) do turn.ids[#turn.ids + 1] = id end
  end
  return turn.ids[turn.taken + 1]
end

-- Slots are unique over all and spaced within each destination. Where no destination can use
-- the next slot, the schedule jumps ahead, but only as far as the next batch comes anyway, so
-- that a newcomer does not wait behind holes.
local jump_limit = now + math.min(horizon, min_interval + 500)
local picked = {}
while #picked < most and #turns > 0 and slot <= limit do
  local at, soonest = nil, nil
  for i, turn in ipairs(turns) do
    if turn.slot <= slot then at = i break end
    if not soonest or turn.slot < soonest then soonest = turn.slot end
  end
  if not at then
    if soonest > jump_limit then break end
    slot = soonest
  else
    local turn = table.remove(turns, at)
    local id = next_id(turn)
    if id then
      turn.taken = turn.taken + 1
      turn.slot = slot + interval
      picked[#picked + 1] = {id, turn.name, slot}
      slot = slot + stagger
      if turn.slot <= limit then turns[#turns + 1] = turn end
    end
  end
end

for i, pick in ipairs(picked) do
  local id, name, at = pick[1], pick[2], pick[3]
  redis.call('ZREM', K.lanes .. name, id)
  redis.call('ZADD', K.processing, at + lease, id)
  redis.call('HSET', K.recs .. id, 's', 'claimed', 'd', name, 't', nonce .. '.' .. i, 'due', at)
end
for _, turn in ipairs(touched) do
  if turn.taken > 0 then
    redis.call('HSET', K.dests .. turn.name, 'slot', turn.slot)
    redis.call('PEXPIRE', K.dests .. turn.name, 86400000)
    redis.call('ZADD', K.destinations, now, turn.name)
  end
  if turn.taken > 0 or not next_id(turn) then to_ring(K, turn.name, horizon, now) end
end
redis.call('HSET', K.state, 'next_batch', 0)
local earliest = now + min_interval
if #picked > 0 then
  redis.call('HSET', K.state, 'slot', slot, 'last_batch', now)
end
if stagger > 0 then earliest = math.max(earliest, slot - horizon) end

local answer = {1, now, arm(earliest)}
for _, pick in ipairs(picked) do
  answer[#answer + 1] = pick[1]
  answer[#answer + 1] = pick[3]
end
redis.call('SET', K.claimed, nonce .. cjson.encode(answer), 'PX', 60000)
return answer
