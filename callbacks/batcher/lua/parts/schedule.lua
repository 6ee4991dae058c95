-- When the next batch is asked for.

-- Arm the next trigger for `at` and return the ms until then, or -1: one due by then is on its way
-- (until 200 ms past its time: it may wait for a thread), or `at` is beyond `look_ahead`, where the
-- ticker sends it.
local function arm_trigger(at, look_ahead)
  local s = read_hash(K.state, 'next_batch', 'paused', 'earliest')
  local armed = num(s.next_batch, 0)
  at = math.max(at, reserved(s.earliest, look_ahead))
  if s.paused or at > now + look_ahead or (armed > now - 200 and armed <= at) then return -1 end
  redis.call('HDEL', K.state, 'next_batch')  -- a removal first: a full Redis lets the rest pass
  redis.call('HSET', K.state, 'next_batch', at)
  return math.max(0, at - now)
end
