-- One destination: its pace, its pause, its hold.

-- Keep what is known of a destination for a day after its last use, and its hold for as long as
-- it lasts. One that is paused has no end, and its caller leaves it so.
local function keep_dest(dest, hold)
  redis.call('PEXPIRE', dest, 86400000 + math.max(0, hold - now))
end

-- A pace in ms, stagger or interval: as set, or where it adapts, as it was stored last.
local function pace_of(stored_us, set, adaptive)
  if set > 0 and adaptive and stored_us then return us_to_ms(num(stored_us, set * 1000)) end
  return set
end

-- The mark of a destination's host, `<host>#*`, a name that no lane has; nothing for a host itself.
local function host_mark(destination)
  local at = string.find(destination, '[/#]', 9)  -- past the scheme
  return at and K.dests .. string.sub(destination, 1, at - 1) .. '#*'
end

-- Whether the host of a lane is paused with all its lanes, known or not, and this one was not
-- resumed by itself since.
local function host_paused(destination)
  local mark = host_mark(destination)
  if not mark then return false end
  local m = redis.call('HMGET', mark, 'paused', destination)
  return m[1] and not m[2]
end

-- Whether a destination has not answered lately: it has had no 2xx since its last timeout, or
-- its breaker is open. `ok` and `broken` are its fields.
local function is_unproven(ok, broken)
  return not ok or broken
end

-- Whoever a destination was held for is not sent: what waits there need not wait for it. `probe`: it
-- was to try a broken destination.
local function end_own_hold(destination, probe)
  local dest = K.dests .. destination
  local why = redis.call('HGET', dest, 'why')
  if why == 'full' or (probe and why == 'breaker') then redis.call('HDEL', dest, 'hold', 'why') end
end
