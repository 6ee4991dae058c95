-- Holds: why a destination is not claimed from for longer than a moment.

-- The end of a hold that lasts until somebody resumes: later than any time.
local END_UNKNOWN = '9000000000000000'

-- `paused`, `breaker` (open or half-open), `park`, `secret`, or nil. One that is only full is not
-- held: that ends with its next answer.
local function held_by(name)
  local d = read_hash(K.dests .. name, 'paused', 'broken', 'hold', 'why')
  if d.paused or host_paused(name) then return 'paused' end
  if d.broken then return 'breaker' end
  if d.why and d.why ~= 'full' and num(d.hold, 0) > now then return d.why end
end

-- The fields that tell of a destination's last hold, which begins now and ends at `till`. One that
-- begins within a second of the last one's end, like that of a probe that failed, goes on instead.
-- `from`: when what led to it began.
local function hold_span(dest, from, till)
  local d = read_hash(dest, 'hold_at', 'hold_end')
  local goes_on = d.hold_at and num(d.hold_end, 0) >= from - 1000
  return 'hold_at', goes_on and d.hold_at or now, 'hold_end', till
end

-- How much of a time was within the last hold of a destination (since `hold_at`, if it had one), or
-- the last pause of all: `s` has `pause_at` and `pause_end`.
local function held_within(from, to, dest, hold_at, s)
  local hold_end = hold_at and redis.call('HGET', dest, 'hold_end')
  local function within(since, till)
    return math.max(0, math.min(to, num(till, to)) - math.max(from, num(since, to)))
  end
  local both = 0
  if hold_at and s.pause_at then
    both = within(
      math.max(num(hold_at), num(s.pause_at)), math.min(num(hold_end, to), num(s.pause_end, to))
    )
  end
  return within(hold_at, hold_end) + within(s.pause_at, s.pause_end) - both
end

-- End the last hold of a destination that is resumed. A lane that was paused with its host was held
-- as long as that: `mark` is the host's, or nil.
local function end_hold_span(dest, mark)
  local d = read_hash(dest, 'hold_at', 'hold_end')
  local since = num(d.hold_end, 0) > now and d.hold_at
  local m = mark and read_hash(mark, 'hold_at', 'hold_end')
  if m and num(m.hold_end, 0) >= now - 60000 then since = since or m.hold_at end
  if since then redis.call('HSET', dest, 'hold_at', since, 'hold_end', now) end
end

-- Enter a destination that is held from now on.
local function note_hold(destination)
  redis.call('ZADD', K.held, 'NX', now, destination)
end
