-- Redis' clock has jumped: hold what ends by age after a jump ahead; after one back let it go on.
--
-- KEYS[1] state         the schedule
-- KEYS[2] processing    PROCESSING
-- KEYS[3] rec:          records
-- KEYS[4] inflight:     requests in flight
-- ARGV[1] jump          ms, below 0: back
-- ARGV[2] since         ms, the time at the caller's look before it
-- ARGV[3] length        ms for which it is held
-- ARGV[4] lease         ms of an attempt's lease
-- Returns 1: that is news; 0: another has noticed this jump before.
-- What is being sent gets its lease anew: by the clock it has lasted too long, or will.
-- Twice: the second is told 0.
-- Cost: O(in flight * log n).
local K = {state = KEYS[1], processing = KEYS[2], recs = KEYS[3], inflights = KEYS[4]}
local jump, since, lease = num(ARGV[1]), num(ARGV[2]), num(ARGV[4])
local now = now_ms()
local jumped = num(redis.call('HGET', K.state, 'jumped'), 0)
-- The caller's last look, as the clock is now: one that was noticed since then is this very jump.
if since + jump <= jumped + 1000 and jumped <= now then return 0 end
redis.call('HDEL', K.state, 'held', 'jump')  -- a removal first: a full Redis lets the rest pass
redis.call('HSET', K.state, 'jumped', now)
if jump > 0 then redis.call('HSET', K.state, 'held', now + num(ARGV[3]), 'jump', jump) end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', K.processing, '-inf', '(0')) do
  local destination = redis.call('HGET', K.recs .. id, 'd')
  redis.call('ZADD', K.processing, -(now + lease), id)
  if destination then redis.call('ZADD', K.inflights .. destination, now + lease, id) end
end
return 1
