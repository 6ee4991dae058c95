-- Measure the demand that decides the stagger; changes nothing.
--
-- @keys state ring lane: rate: tried failing unproven places
-- @arg begun_lease ms: a destination ready within it counts: a full one does, a broken one does not
-- Returns {ready (or claimed, with a slot ahead), accepted in the last 10 s, rate set before in
--   sends per 1000 s or -1, destinations tried in the last minute or ready that had answered
--   before, those of them failing, unproven destinations that can send at a time, all of these that
--   wait, and how many of them find a place per second at the rate at which places have come free
--   lately}.
-- Cost: O(destinations ready), at most 1,000.
local ready, untold, soon = 0, 0, now + begun_lease
for _, destination in ipairs(redis.call('ZRANGEBYSCORE', K.ring, '-inf', soon, 'LIMIT', 0, 1000)) do
  ready = ready + redis.call('ZCARD', K.lanes .. destination)
  -- One that is proven and was not tried lately says nothing against our own network.
  if num(redis.call('ZSCORE', K.tried, destination), 0) < now - 60000 then untold = untold + 1 end
end
local waiting = redis.call('ZCOUNT', K.unproven, '-inf', soon)  -- each sends one at a time
local unproven = math.min(waiting, num(redis.call('HGET', K.state, 'unproven_most'), waiting))
local bucket, share = math.floor(now / 10000), (now % 10000) / 10000
local accepted = num(redis.call('HGET', K.rates .. bucket, 'accepted'), 0)
  + (1 - share) * num(redis.call('HGET', K.rates .. bucket - 1, 'accepted'), 0)
local s = read_hash(K.state, 'rate', 'slot', 'stagger', 'last_batch')
-- The last batch took all free places; those freed since count for at most half a second.
local since = math.min(500, math.max(250, now - num(s.last_batch, 0)))
local room = math.floor(math.min(waiting, unproven_room()) * 1000 / since)
local rate, stagger = num(s.rate, -1), num(s.stagger, 0)
-- What is claimed and has its slot still ahead is waiting, too.
if stagger > 0 then
  ready = ready + math.floor(math.max(0, num(s.slot, 0) - now) * 1000 / stagger)
end
local tried = untold + redis.call('ZCOUNT', K.tried, now - 60000, '+inf')
local failing = redis.call('ZCOUNT', K.failing, now - 60000, '+inf')
return {ready, math.floor(accepted), rate, tried, failing, unproven, waiting, room}
