-- Sizes, schedule and totals, all read at one instant; changes nothing.
--
-- KEYS[1] expiry        ends of life
-- KEYS[2] processing    PROCESSING
-- KEYS[3] dead          dead letters
-- KEYS[4] sent          sent and cancelled records
-- KEYS[5] ring          destinations with something waiting
-- KEYS[6] lane:         lanes
-- KEYS[7] lock          the dispatch lock
-- KEYS[8] state         the schedule
-- KEYS[9] counters      totals
-- KEYS[10] rate:        totals of each 10 s
-- KEYS[11] unproven     destinations with something waiting that have not answered lately
-- Returns {now, queued, processing, dead, sent records, destinations waiting, due time of the
--   oldest callback waiting or -1, holder of the lock or '', state, counters, the same of the
--   last minute}; the last three as lists {field, value, ...}, times in ms.
-- Cost: O(destinations waiting), the first 150 of each ring are read: a millisecond or two.
local K = {
  expiry = KEYS[1], processing = KEYS[2], dead = KEYS[3], sent = KEYS[4], ring = KEYS[5],
  lanes = KEYS[6], lock = KEYS[7], state = KEYS[8], counters = KEYS[9], rates = KEYS[10],
  unproven = KEYS[11],
}
local now = now_ms()
local oldest = -1
for _, ring in ipairs({K.ring, K.unproven}) do
  for _, destination in ipairs(redis.call('ZRANGE', ring, 0, 149)) do
    local due = num(redis.call('ZRANGE', K.lanes .. destination, 0, 0, 'WITHSCORES')[2], now)
    if due <= now and (oldest < 0 or due < oldest) then oldest = due end
  end
end
local waiting = redis.call('ZCARD', K.ring) + redis.call('ZCARD', K.unproven)
local sums, rates = {}, {}
local bucket, share = math.floor(now / 10000), (now % 10000) / 10000
for back = 0, 6 do
  local h = redis.call('HGETALL', K.rates .. bucket - back)
  local weight = back == 6 and 1 - share or 1
  for i = 1, #h, 2 do sums[h[i]] = (sums[h[i]] or 0) + weight * h[i + 1] end
end
for field, value in pairs(sums) do
  rates[#rates + 1] = field
  rates[#rates + 1] = math.floor(value + 0.5)
end
local processing = redis.call('ZCARD', K.processing)
return {
  now, redis.call('ZCARD', K.expiry) - processing, processing, redis.call('ZCARD', K.dead),
  redis.call('ZCARD', K.sent), waiting, oldest, redis.call('GET', K.lock) or '',
  redis.call('HGETALL', K.state), redis.call('HGETALL', K.counters), rates,
}
