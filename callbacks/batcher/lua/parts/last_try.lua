-- Which callback is to blame when a process dies during many requests? A crash counts for each one
-- in flight, so the last try, which may end a callback, is made while no other suspect is in
-- flight. `last`: the number of crashes that leaves one try.
local LastTry = {}

-- Why a callback has to wait: `other`, for another's trial, or `own`, before its own trial, for the
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

