-- Give one shard its next slots of the stagger over all.
--
-- @keys wants state
-- @arg shard text: the number of that shard
-- @arg pace ms: the stagger
-- @arg horizon ms: how far ahead slots are given out
-- @arg window ms: how far ahead, while several shards want some
-- @arg longest ms: the longest possible stagger
-- @arg bid_for ms: for how long a shard's word counts, see `bid`
-- Returns {ahead, count, again}: ms until the first slot, how many there are, one stagger apart,
--   and if there is none, in how many ms to ask again.
-- Where several want some, none gets further ahead of another one that still wants some than its
-- part of a window (start-time fair queueing: Goyal, Vin, Cheng, 1997). One that wants little
-- gets that.
-- Twice: the first slots stay unused.
-- Cost: O(shards).
local s, horizons = read_hash(K.state, 'slot', 'send'), horizon + longest
local slot = math.max(now, reserved(s.slot, horizons), reserved(s.send, horizons))
local own, others, behind = nil, 0, math.huge
local had, till = granted_to(shard)
local all = redis.call('HGETALL', K.wants)
for i = 1, #all, 2 do
  local bid = bid_of(all[i + 1], bid_for)
  if bid and all[i] == shard then
    own = bid
  elseif bid and bid.want > 0 then
    others, behind = others + 1, math.min(behind, (granted_to(all[i])))
  end
end
if not own then return {0, 0, 50} end
local limit = now + (others > 0 and window or horizon)
local slots = math.min(own.want, math.floor((limit - slot) / pace) + 1)
if others > 0 then
  local part = math.ceil((math.floor(window / pace) + 1) / (others + 1))
  slots = math.min(slots, math.min(behind, had) + part - had)
end
if slots <= 0 then return {0, 0, math.max(pace, slot - limit, 50)} end
redis.call('HDEL', K.state, 'slot')  -- a removal first: a full Redis lets the rest pass
redis.call('HSET', K.state, 'slot', slot + slots * pace)
redis.call(
  'HSET', K.wants, 'g' .. shard, had + slots .. ' ' .. slot + slots * pace, 'v', had,
  shard, own.at .. ' ' .. own.want - slots .. ' ' .. own.demand
)
return {slot - now, slots, 0}
