-- End callbacks past their end of life: dead, reason `expired`; a request in flight may end first.
--
-- @keys expiry rec: cb: processing sent dead inflight: lane: ring counters rate: unproven
-- @keys places state dest:
-- @arg limit number: most callbacks
-- @arg attempt_lease ms: after which one in flight is looked at again
-- @arg latest ms: it cannot be later than this unless the clock has jumped; -1: unknown
-- Returns how many expired: none while expiry is held because Redis' clock has jumped.
-- If that request fails, the end of life is again what it was.
-- Twice: the second finds only what has come to its end since.
-- Cost: O(limit * log n).
if age_is_unsure(latest) then return 0 end
local expired = 0
local old = redis.call('ZRANGEBYSCORE', K.expiry, '-inf', now, 'WITHSCORES', 'LIMIT', 0, limit)
for i = 1, #old, 2 do
  local id = old[i]
  local r = read_record(id, 'phase', 'destination', 'is_probe')
  if r.phase == 'sending' then
    redis.call('ZREM', K.expiry, id)  -- a removal first: a full Redis lets the rest pass
    redis.call('ZADD', K.expiry, now + attempt_lease, id)
    redis.call('HSETNX', K.recs .. id, FIELD.ends_at, old[i + 1])
  else
    end_unsent(id, r, 'dead', 'expired')
    expired = expired + 1
  end
end
return expired
