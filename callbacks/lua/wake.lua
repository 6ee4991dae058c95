-- Name the claimed callbacks that are past their slot and not begun: their message may be lost.
--
-- KEYS[1] processing    PROCESSING
-- KEYS[2] rec:          records
-- ARGV[1] limit         most callbacks
-- ARGV[2] late          ms past its slot from which one counts
-- ARGV[3] lease         ms past its slot at which a callback is taken back
-- ARGV[4] begun_lease   ms of an attempt's lease, shorter than `lease`
-- ARGV[5] again         ms after which the same callback is named again
-- Returns {id, token, id, token, ...}.
-- Twice: those named are not named again for `again` ms.
-- Cost: O(late ones), read 500 at most.
local processing, recs = KEYS[1], KEYS[2]
local limit, late, lease, begun_lease, again =
  num(ARGV[1]), num(ARGV[2]), num(ARGV[3]), num(ARGV[4]), num(ARGV[5])
local now = now_ms()
local named = {}
redis.call('ZREM', processing, '')  -- a removal first: a full Redis lets the rest pass
local ids = redis.call('ZRANGEBYSCORE', processing, now + begun_lease, now + lease - late, 'LIMIT', 0, 500)
for _, id in ipairs(ids) do
  local r = redis.call('HMGET', recs .. id, 't', 's', 'w')
  if (r[2] == 'claimed' or r[2] == 'retry') and now - num(r[3], 0) >= again then
    redis.call('HSET', recs .. id, 'w', now)
    named[#named + 1] = id
    named[#named + 1] = r[1]
    if #named >= 2 * limit then break end
  end
end
return named
