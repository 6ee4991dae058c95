-- Holds: why a destination is not claimed from for longer than a moment.

-- `paused`, `breaker` (open or half-open), `park`, `secret`, or nil. One that is only full is not
-- held: that ends with its next answer.
local function held_by(name)
  local d = read_hash(K.dests .. name, 'paused', 'broken', 'hold', 'why')
  if d.paused or host_paused(name) then return 'paused' end
  if d.broken then return 'breaker' end
  if d.why and d.why ~= 'full' and num(d.hold, 0) > now then return d.why end
end

-- Enter a destination that is held from now on.
local function note_hold(destination)
  redis.call('ZADD', K.held, 'NX', now, destination)
end
