-- One destination: its pace, its pause, its hold.

-- Keep a destination's fields for a day after its last use or the end of its hold. Those of a
-- paused one have no end: its caller leaves them alone.
local function keep_dest(dest, hold)
  redis.call('PEXPIRE', dest, 86400000 + math.max(0, hold - now))
end

-- A pace (stagger or interval) in ms: as set, or, if it adapts, as stored last.
local function pace_of(stored_us, set, adaptive)
  if set > 0 and adaptive and stored_us then return us_to_ms(num(stored_us, set * 1000)) end
  return set
end

-- The key of the mark of a lane's host, `<host>#*`, a name that no lane has; nil for a host itself.
local function host_mark(destination)
  local at = string.find(destination, '[/#]', 9)  -- past the scheme
  return at and K.dests .. string.sub(destination, 1, at - 1) .. '#*'
end

-- Whether all lanes of its host are paused, and this one was not resumed by itself since.
local function host_paused(destination)
  local mark = host_mark(destination)
  if not mark then return false end
  local m = redis.call('HMGET', mark, 'paused', destination)
  return m[1] and not m[2]
end

-- Whether a destination is unproven: no 2xx since its last timeout, or its breaker is open. `ok`
-- and `broken` are its fields.
local function is_unproven(ok, broken)
  return not ok or broken
end

-- The callback that a destination was held for is not sent: the others need not wait for it.
-- `probe`: it was the probe of a broken destination.
local function end_own_hold(destination, probe)
  local dest = K.dests .. destination
  local why = redis.call('HGET', dest, 'why')
  if why == 'full' or (probe and why == 'breaker') then redis.call('HDEL', dest, 'hold', 'why') end
end
