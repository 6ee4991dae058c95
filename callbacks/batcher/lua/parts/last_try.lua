-- Who is to blame when a process dies in the middle of many requests? A crash is counted for
-- each callback in flight, so the last one, which ends a callback, has to come while no other
-- suspect is in flight. `last`: as many crashes leave one try.
local LastTry = {}

-- Why a callback has to wait: `other`, for a trial, or `own`, where it is its own, for the
-- suspects in flight. Then the trial is announced, so that no more of them begin.
function LastTry.waits(id, crashes, last, lease)
  if crashes == 0 then return false end
  redis.call('ZREMRANGEBYSCORE', K.suspects, '-inf', now)
  local holder = redis.call('GET', K.trial)
  if holder and holder ~= id then return 'other' end
  if crashes < last or redis.call('ZCARD', K.suspects) == 0 then return false end
  redis.call('SET', K.trial, id, 'PX', lease)
  return 'own'
end

function LastTry.enter(id, crashes, last, expires)
  if crashes == 0 then return end
  redis.call('ZADD', K.suspects, expires, id)
  redis.call('PEXPIRE', K.suspects, 86400000)
  if crashes >= last then redis.call('SET', K.trial, id, 'PXAT', expires) end
end

function LastTry.leave(id)
  redis.call('ZREM', K.suspects, id)
  if redis.call('GET', K.trial) == id then redis.call('DEL', K.trial) end
end

