-- Say which structures hold a callback, all read at one instant; changes nothing.
--
-- KEYS[1] rec:          records
-- KEYS[2] cb:           frozen requests
-- KEYS[3] lane:         lanes
-- KEYS[4] processing    PROCESSING
-- KEYS[5] expiry        ends of life
-- KEYS[6] sent          sent and cancelled records
-- KEYS[7] dead          dead letters
-- KEYS[8] inflight:     requests in flight
-- ARGV[1] id
-- ARGV[2] lane          where to look for it if it does not say itself
-- Returns {now, destination, due time in its lane, place in PROCESSING, end of life, when sent
--   or cancelled, when dead, in flight until, 1 if its request is kept, field, value, field, ...
--   of its record}; an empty string for what is not there.
-- Cost: O(log n).
local K = {
  recs = KEYS[1], cbs = KEYS[2], lanes = KEYS[3], processing = KEYS[4], expiry = KEYS[5],
  sent = KEYS[6], dead = KEYS[7], inflights = KEYS[8],
}
local id = ARGV[1]
local destination = destination_of(K, id, redis.call('HGET', K.recs .. id, 'd')) or ARGV[2]
local answer = {
  now_ms(), destination,
  redis.call('ZSCORE', K.lanes .. destination, id) or '',
  redis.call('ZSCORE', K.processing, id) or '',
  redis.call('ZSCORE', K.expiry, id) or '',
  redis.call('ZSCORE', K.sent, id) or '',
  redis.call('ZSCORE', K.dead, id) or '',
  redis.call('ZSCORE', K.inflights .. destination, id) or '',
  redis.call('EXISTS', K.cbs .. id),
}
for _, value in ipairs(redis.call('HGETALL', K.recs .. id)) do answer[#answer + 1] = value end
return answer
