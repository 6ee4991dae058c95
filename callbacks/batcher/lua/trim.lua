-- Forget old records: sent and cancelled ones, dead letters, destinations long unused.
--
-- KEYS[1] sent          sent and cancelled records
-- KEYS[2] dead          dead letters
-- KEYS[3] rec:          records
-- KEYS[4] cb:           frozen requests
-- KEYS[5] destinations  all destinations by last use
-- KEYS[6] lane:         lanes
-- KEYS[7] dest:         destinations' own state
-- KEYS[8] counters      totals
-- KEYS[9] rate:         totals of each 10 s
-- KEYS[10] gone         URLs that answered 410
-- KEYS[11] state        the schedule
-- ARGV[1] limit         most of each kind, but
-- ARGV[2] dead_limit    most dead letters, whose bodies may be large
-- ARGV[3] sent_ttl      ms that a sent record is kept
-- ARGV[4] sent_max      most sent records kept
-- ARGV[5] dead_ttl      ms that a dead letter is kept
-- ARGV[6] dead_max      most dead letters kept, -1: no limit
-- ARGV[7] latest        ms, later than which it cannot be unless the clock has jumped; -1: unknown
-- Where it has jumped, nothing goes for its age.
-- Returns {sent records forgotten, dead letters purged, destinations forgotten}.
-- Twice: the second finds only what has grown old since.
-- Cost: O(limit * log n). `limit` is at most 4,000: all keys of a kind go in one command.
local K = {
  sent = KEYS[1], dead = KEYS[2], recs = KEYS[3], cbs = KEYS[4], destinations = KEYS[5],
  lanes = KEYS[6], dests = KEYS[7], counters = KEYS[8], rates = KEYS[9], gone = KEYS[10],
  state = KEYS[11],
}
local limit, dead_limit = num(ARGV[1]), num(ARGV[2])
local now = now_ms()
local unsure = age_is_unsure(K, now, num(ARGV[7]))

local function forget(index, ids)
  local keys = {}
  for i, id in ipairs(ids) do keys[2 * i - 1], keys[2 * i] = K.recs .. id, K.cbs .. id end
  in_steps('ZREM', index, ids)
  if keys[1] then redis.call('DEL', unpack(keys)) end
  return #ids
end

-- The oldest that are too many or too old, `at_once` at most.
local function cut(index, most, ttl, at_once)
  local over, cut_off = redis.call('ZCARD', index) - most, 0
  if most >= 0 and over > 0 then
    cut_off = forget(index, redis.call('ZRANGE', index, 0, math.min(at_once, over) - 1))
  end
  if unsure or cut_off >= at_once then return cut_off end
  local old = redis.call('ZRANGEBYSCORE', index, '-inf', now - ttl, 'LIMIT', 0, at_once - cut_off)
  return cut_off + forget(index, old)
end

local sent = cut(K.sent, num(ARGV[4]), num(ARGV[3]), limit)
local dead = cut(K.dead, num(ARGV[6]), num(ARGV[5]), dead_limit)
if dead > 0 then count(K, 'purged', dead, now) end

redis.call('ZREMRANGEBYRANK', K.gone, 0, -100001)  -- the newest 100,000 marks stay

local used, unused = {}, {}
local last = unsure and '(-inf' or now - 86400000
local idle = redis.call('ZRANGEBYSCORE', K.destinations, '-inf', last, 'LIMIT', 0, limit)
for _, name in ipairs(idle) do
  local d = redis.call('HMGET', K.dests .. name, 'paused', 'hold')
  if d[1] or num(d[2], 0) > now or redis.call('EXISTS', K.lanes .. name) == 1 then
    used[#used + 1], used[#used + 2] = now, name
  else
    unused[#unused + 1] = name
  end
end
in_steps('ZREM', K.destinations, unused)
in_steps('ZADD', K.destinations, used)
return {sent, dead, #unused}
