-- Name the claimed callbacks that are past their slot and not begun: their message may be lost.
--
-- @keys processing rec:
-- @arg offset number: how many late ones to pass over, which an earlier call has read
-- @arg limit number: most callbacks that are read
-- @arg repeats number: most that are named although they have been named before: where workers are
--   slow, their messages must not pile up
-- @arg late ms: past its slot from which one counts
-- @arg claim_lease ms: past its slot at which a callback is taken back
-- @arg again ms: after which the same callback is named again
-- Returns {read, repeats, id, token, id, token, ...}: how many were read, and how many of those
--   named have been named before.
-- Twice: those named are not named again for `again` ms.
-- Cost: O(limit + log n).
redis.call('ZREM', K.processing, '')  -- a removal first: a full Redis lets the rest pass
local ids = redis.call('ZRANGEBYSCORE', K.processing, now - claim_lease, now - late, 'LIMIT', offset, limit)
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
