-- Take back what is stuck: PROCESSING -> QUEUE, or dead when its sending crashed too often.
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
-- KEYS[13] suspects     requests in flight of callbacks that have crashed
-- KEYS[14] trial        the one callback whose last try this is
-- KEYS[15] unproven     destinations with something waiting that have not answered lately
-- KEYS[16] places       callbacks in flight or claimed, by when they take a place of such
-- ARGV[1] limit         most callbacks
-- ARGV[2] max_crashes   as many crashed attempts are the end
-- ARGV[3] spread_min    ms, and
-- ARGV[4] spread_max    ms: a crashed one is due again after crashes * so much,
-- ARGV[5] chance        picked by this number in [0, 1) and its place in the pass
-- ARGV[6] window        ms ahead of its next slot that a destination is claimed from
-- ARGV[7] lease         ms past its slot at which a claimed callback is taken back
-- ARGV[8] latest        ms, later than which it cannot be unless the clock has jumped; -1: unknown
-- Returns {recovered, crashed to death, cancelled}.
-- Twice: the second finds only what is past its lease since.
-- Cost: O(limit * log n).
-- @uses last_try
local K = {
  processing = KEYS[1], recs = KEYS[2], cbs = KEYS[3], expiry = KEYS[4], sent = KEYS[5],
  dead = KEYS[6], inflights = KEYS[7], lanes = KEYS[8], ring = KEYS[9], dests = KEYS[10],
  counters = KEYS[11], rates = KEYS[12], suspects = KEYS[13], trial = KEYS[14],
  unproven = KEYS[15], places = KEYS[16],
}
local limit, max_crashes, spread_min, spread_max = num(ARGV[1]), num(ARGV[2]), num(ARGV[3]), num(ARGV[4])
local chance, window, lease = num(ARGV[5]), num(ARGV[6]), num(ARGV[7])
local now = now_ms()
local done = {0, 0, 0}

-- An attempt that had begun and never ended: its process died, or cannot reach Redis.
local function crashed(id, r)
  local crashes = num(r[4], 0) + 1
  local entry = string.format('[%d,%d,"retry",null,"crashed",%d]', num(r[3], 0), num(r[5], now), now - num(r[5], now))
  redis.call('HSET', K.recs .. id, 'c', crashes, 'o', 'crashed', 'e', 'the sender vanished during the request',
    'h', with_entry(r[7], entry))
  if r[6] then return 3, 'cancelled', 'cancelled' end
  if crashes >= max_crashes then return 2, 'dead', 'crashed' end
  return 1, crashes
end

-- Those whose request should long have ended, unless it is the clock; then those that never began.
local stuck, latest = {}, num(ARGV[8])
if latest < 0 or now <= latest then
  stuck = redis.call('ZREVRANGEBYSCORE', K.processing, '(0', -now, 'LIMIT', 0, limit)
end
local idle = redis.call('ZRANGEBYSCORE', K.processing, 0, now - lease, 'LIMIT', 0, limit - #stuck)
for _, id in ipairs(idle) do stuck[#stuck + 1] = id end

for i, id in ipairs(stuck) do
  redis.call('ZREM', K.processing, id)
  redis.call('ZREM', K.places, id)
  local r = redis.call('HMGET', K.recs .. id, 'd', 's', 'a', 'c', 'at', 'x', 'h', 'end')
  local destination, due = destination_of(K, id, r[1]) or '', now
  local kind, what, reason = 1, 0, nil
  redis.call('ZREM', K.inflights .. destination, id)
  if r[4] then LastTry.leave(K, id) end
  if redis.call('EXISTS', K.cbs .. id) == 0 then
    redis.call('HSET', K.recs .. id, 'e', 'its request is gone from Redis')
    kind, what, reason = 2, 'dead', 'crashed'
  elseif r[2] == 'sending' then
    kind, what, reason = crashed(id, r)
    if kind == 1 then
      local share = (chance + i * 0.6180339887) % 1
      due = now + math.floor(what * (spread_min + share * (spread_max - spread_min)))
    end
  end
  if kind == 1 then
    if r[8] then end_of_life(K, id, r[8]) end
    redis.call('HDEL', K.recs .. id, 't', 'w', 'bn', 'at', 'p', 'u')
    redis.call('HSET', K.recs .. id, 's', 'queued', 'due', due)
    to_lane(K, destination, id, due, window)
  else
    redis.call('HDEL', K.recs .. id, 't')  -- should its sender come back, it is stale
    finish(K, id, destination, what, reason, now)
  end
  done[kind] = done[kind] + 1
end

-- PROCESSING is the truth: a place of whoever has left it long ago is free. One that is taken moves
-- behind the others, for the next pass to look at these; it counts as before.
redis.call('ZREM', K.places, '')  -- a removal first: a full Redis lets the rest pass
for _, id in ipairs(redis.call('ZRANGEBYSCORE', K.places, '-inf', now - 60000, 'LIMIT', 0, limit)) do
  if redis.call('ZSCORE', K.processing, id) then
    redis.call('ZADD', K.places, now, id)
  else
    redis.call('ZREM', K.places, id)
  end
end
local all = done[1] + done[2] + done[3]
if all > 0 then count(K, 'recovered', all, now) end
return done
