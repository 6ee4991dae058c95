-- List the callbacks that have died since `told`, oldest first; the very first call sets `told`.
--
-- @keys dead rec: state
-- @arg limit number: most callbacks, but always all of one millisecond
-- Returns {until, id, reason, id, reason, ...}: `until` is what to pass to `notified` when all of
--   them have been reported. The very first call lists none and starts at its own time.
-- Twice: the same are listed until `told` moves on.
-- Cost: O(limit + log n).
local told = num(redis.call('HGET', K.state, 'told'))
if not told then
  redis.call('HDEL', K.state, 'told')  -- a removal first: a full Redis lets the rest pass
  redis.call('HSET', K.state, 'told', now - 1000)
  return {now - 1000}
end
-- What died within the last second waits: another may yet die in the same millisecond.
local last = now - 1000
local page = redis.call('ZRANGEBYSCORE', K.dead, '(' .. told, last, 'WITHSCORES', 'LIMIT', 0, limit)
if #page == 2 * limit then last = num(page[#page]) end
local answer = {math.max(last, told)}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', K.dead, '(' .. told, last)) do
  answer[#answer + 1] = id
  answer[#answer + 1] = read_record(id, 'reason').reason or ''
end
return answer
