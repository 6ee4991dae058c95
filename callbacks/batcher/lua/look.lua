-- Read what waits, to decide whether a flush is due; changes nothing.
--
-- @keys ring lane: expiry processing state unproven places
-- @arg batch_size number: count ready callbacks up to this
-- Returns {now, paused (0 or 1), ready, due time of the oldest ready or -1, when the next
--   destination becomes ready or -1, queued, processing, 1 if a trigger is overdue and no claim has
--   answered it}, times in ms.
-- Cost: O(batch).
local ready, oldest = ready_of(batch_size)
local function next_in(ring)
  local found = redis.call('ZRANGEBYSCORE', ring, '(' .. now, '(+inf', 'WITHSCORES', 'LIMIT', 0, 1)
  return num(found[2], math.huge)
end
local soon = next_in(K.ring)
if unproven_room() > 0 then soon = math.min(soon, next_in(K.unproven)) end
local processing = redis.call('ZCARD', K.processing)
local queued = redis.call('ZCARD', K.expiry) - processing
local paused = redis.call('HEXISTS', K.state, 'paused')
local trigger = num(redis.call('HGET', K.state, 'next_batch'), 0)
local lost = trigger > 0 and trigger < now - 1000 and 1 or 0
return {now, paused, ready, oldest, soon < math.huge and soon or -1, queued, processing, lost}
