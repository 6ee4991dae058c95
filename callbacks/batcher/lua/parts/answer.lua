-- The answer to a call that a person waits for, kept for its repeat should its reply have been lost.
-- The nonce is that of the call, and of its repeats. That nothing was
-- changed is not kept.
local Answer = {}

function Answer.before(nonce)
  return num(redis.call('GET', K.answers .. nonce))
end

function Answer.keep(nonce, ttl, changed)
  if changed > 0 then redis.call('SET', K.answers .. nonce, changed, 'PX', ttl) end
  return changed
end
