-- Read sizes, schedule and totals at one instant; changes nothing.
--
-- @keys expiry processing dead sent ring lane: lock state counters rate: unproven
-- Returns {now, queued, processing, dead, sent records, destinations waiting, due time of the
--   oldest callback waiting or -1, holder of the lock or '', state, counters, the same for the last
--   minute, in flight, dead within the last hour}; state and counters as lists {field, value, ...},
--   times in ms.
-- Cost: O(destinations waiting), at most 150 of each ring: a millisecond or two.
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
  redis.call('ZCOUNT', K.processing, '-inf', -now),
  redis.call('ZCOUNT', K.dead, now - 3600000, '+inf'),
}
