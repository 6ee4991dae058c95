-- List the claimed callbacks past their slot that have not begun: their messages may be lost.
--
-- @keys processing rec:
-- @arg offset number: how many late ones to skip, which an earlier call has read
-- @arg limit number: most callbacks that are read
-- @arg repeats number: most that are listed again: while workers are slow, messages must not pile
--   up
-- @arg late ms: a callback this long past its slot counts as late
-- @arg claim_lease ms: a callback this long past its slot is taken back
-- @arg again ms: after which the same callback is listed again
-- Returns {read, repeats, id, token, id, token, ...}: how many were read, and how many of those
--   listed had been listed before.
-- Twice: those listed are not listed again for `again` ms.
-- Cost: O(limit + log n).
redis.call('ZREM', K.processing, '')  -- a removal first: a full Redis lets the rest pass
local ids = redis.call(
  'ZRANGEBYSCORE', K.processing, now - claim_lease, now - late, 'LIMIT', offset, limit
)
local answer = {#ids, 0}
for _, id in ipairs(ids) do
  local r = read_record(id, 'token', 'phase', 'woken_at')
  local waits = r.phase == 'claimed' or r.phase == 'retry'
  local repeated = r.woken_at and 1 or 0
  if waits and now - num(r.woken_at, 0) >= again and answer[2] + repeated <= repeats then
    set_record(id, 'woken_at', now)
    answer[2] = answer[2] + repeated
    answer[#answer + 1] = id
    answer[#answer + 1] = r.token
  end
end
return answer
