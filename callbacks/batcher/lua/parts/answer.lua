-- The answer to a call that a person waits for, kept for a repeat of the call in case its reply is
-- lost. A call and its repeats share a nonce. An answer of 0 (nothing changed) is not kept.
local Answer = {}

function Answer.before(nonce)
  return num(redis.call('GET', K.answers .. nonce))
end

function Answer.keep(nonce, ttl, changed)
  if changed > 0 then redis.call('SET', K.answers .. nonce, changed, 'PX', ttl) end
  return changed
end
