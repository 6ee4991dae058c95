-- Read which structures hold a callback, at one instant; changes nothing.
--
-- @keys rec: cb: lane: processing expiry sent dead inflight:
-- @arg id text
-- @arg lane text: where to look if its record and request name none
-- Returns {now, destination, due time in its lane, place in PROCESSING, end of life, when sent or
--   cancelled, when dead, in flight until, 1 if its request is kept, the start of its request (up
--   to the environment in its body), field, value, field, ... of its record}; an empty string for
--   what is not there.
-- Cost: O(log n).
local destination = destination_of(id, read_record(id, 'destination').destination) or lane
local answer = {
  now, destination,
  redis.call('ZSCORE', K.lanes .. destination, id) or '',
  redis.call('ZSCORE', K.processing, id) or '',
  redis.call('ZSCORE', K.expiry, id) or '',
  redis.call('ZSCORE', K.sent, id) or '',
  redis.call('ZSCORE', K.dead, id) or '',
  redis.call('ZSCORE', K.inflights .. destination, id) or '',
  redis.call('EXISTS', K.cbs .. id),
  head_of(id),
}
for _, value in ipairs(redis.call('HGETALL', K.recs .. id)) do answer[#answer + 1] = value end
return answer
