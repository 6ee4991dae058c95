-- Name the claimed callbacks that are past their slot and not begun: their message may be lost.
--
-- KEYS[1] processing    PROCESSING
-- KEYS[2] rec:          records
-- ARGV[1] offset        how many late ones to pass over, which an earlier call has read
-- ARGV[2] limit         most callbacks that are read
-- ARGV[3] repeats       most that are named although they have been named before: where workers
--   are slow, their messages must not pile up
-- ARGV[4] late          ms past its slot from which one counts
-- ARGV[5] lease         ms past its slot at which a callback is taken back
-- ARGV[6] again         ms after which the same callback is named again
-- Returns {read, repeats, id, token, id, token, ...}: how many were read, and how many of those
--   named have been named before.
-- Twice: those named are not named again for `again` ms.
-- Cost: O(limit + log n).
local processing, recs = KEYS[1], KEYS[2]
local offset, limit, repeats, late = num(ARGV[1]), num(ARGV[2]), num(ARGV[3]), num(ARGV[4])
local lease, again = num(ARGV[5]), num(ARGV[6])
local now = now_ms()
redis.call('ZREM', processing, '')  -- a removal first: a full Redis lets the rest pass
local ids = redis.call('ZRANGEBYSCORE', processing, now - lease, now - late, 'LIMIT', offset, limit)
local answer = {#ids, 0}
for _, id in ipairs(ids) do
  local r = redis.call('HMGET', recs .. id, 't', 's', 'w')
  local waits = r[2] == 'claimed' or r[2] == 'retry'
  local repeated = r[3] and 1 or 0
  if waits and now - num(r[3], 0) >= again and answer[2] + repeated <= repeats then
    redis.call('HSET', recs .. id, 'w', now)
    answer[2] = answer[2] + repeated
    answer[#answer + 1] = id
    answer[#answer + 1] = r[1]
  end
end
return answer
