-- Delete old records: sent and cancelled ones, dead letters, destinations long unused.
--
-- @keys sent dead rec: cb: destinations lane: dest: counters rate: gone state tried failing
-- @keys troubled
-- @arg limit number: most of each kind
-- @arg dead_limit number: most dead letters, fewer because their bodies may be large
-- @arg sent_ttl ms: how long a sent record is kept
-- @arg sent_max number: most sent records kept
-- @arg dead_ttl ms: how long a dead letter is kept
-- @arg dead_max number: most dead letters kept, -1: no limit
-- @arg latest ms: it cannot be later than this unless the clock has jumped; -1: unknown
-- @arg own_shard number: of several shards, -1: the only one
-- If it has jumped, nothing is deleted for its age.
-- Returns {sent records deleted, dead letters purged, destinations deleted, id, id, ...}: the ids
--   only where there are several shards, as others may have reservations for them.
-- Twice: the second finds only what has grown old since.
-- Cost: O(limit * log n). `limit` is at most 4,000: all keys of a kind go in one command.
local unsure = age_is_unsure(latest)

local named = {}
local function forget(index, ids)
  local keys = {}
  for _, id in ipairs(own_shard >= 0 and ids or {}) do named[#named + 1] = id end
  for i, id in ipairs(ids) do keys[2 * i - 1], keys[2 * i] = K.recs .. id, K.cbs .. id end
  in_steps('ZREM', index, ids)
  if keys[1] then redis.call('DEL', unpack(keys)) end
  return #ids
end

-- Delete the oldest, those too many or too old, at most `at_once`.
local function cut(index, most, ttl, at_once)
  local over, cut_off = redis.call('ZCARD', index) - most, 0
  if most >= 0 and over > 0 then
    cut_off = forget(index, redis.call('ZRANGE', index, 0, math.min(at_once, over) - 1))
  end
  if unsure or cut_off >= at_once then return cut_off end
  local old = redis.call('ZRANGEBYSCORE', index, '-inf', now - ttl, 'LIMIT', 0, at_once - cut_off)
  return cut_off + forget(index, old)
end

local sent = cut(K.sent, sent_max, sent_ttl, limit)
local dead = cut(K.dead, dead_max, dead_ttl, dead_limit)
if dead > 0 then count('purged', dead) end

redis.call('ZREMRANGEBYRANK', K.gone, 0, -100001)  -- the newest 100,000 marks stay
-- `demand` looks one minute back.
redis.call('ZREMRANGEBYSCORE', K.tried, '-inf', now - 60000)
redis.call('ZREMRANGEBYSCORE', K.failing, '-inf', now - 60000)

local used, unused = {}, {}
local last = unsure and '(-inf' or now - 86400000
local idle = redis.call('ZRANGEBYSCORE', K.destinations, '-inf', last, 'LIMIT', 0, limit)
for _, name in ipairs(idle) do
  local d = read_hash(K.dests .. name, 'paused', 'hold')
  if d.paused or num(d.hold, 0) > now or redis.call('EXISTS', K.lanes .. name) == 1 then
    used[#used + 1], used[#used + 2] = now, name
  else
    unused[#unused + 1] = name
  end
end
in_steps('ZREM', K.destinations, unused)
in_steps('ZREM', K.troubled, unused)
in_steps('ZADD', K.destinations, used)
return {sent, dead, #unused, unpack(named)}
