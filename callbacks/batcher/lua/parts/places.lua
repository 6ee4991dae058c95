-- Places: threads or greenlets of all workers, of which unproven destinations share a part.

-- Whether answers take so long that each request counts as overdue: many such destinations would
-- else hold all places, each in its own good time.
local function is_slow(latency)
  return num(latency, 0) >= 2000
end

-- Whether requests that hang or are slow hold places beyond those that unproven destinations share,
-- `most` (false where no worker has told how many there are).
local function are_places_short(most)
  return most and redis.call('ZCOUNT', K.places, '-inf', now) > 1.25 * most
end

-- Whether a destination that has answered lately hangs just now or is slow: its oldest request in
-- flight is overdue. This counts while places are short only: a slow answer now and then costs
-- nobody anything.
local function is_stalled(destination, latency)
  if is_slow(latency) then return true end
  local oldest = redis.call('ZRANGE', K.inflights .. destination, 0, 0)[1]
  return oldest and num(redis.call('ZSCORE', K.places, oldest), math.huge) <= now
end

-- From when on a request to a destination that has answered lately is overdue.
local function overdue_from(at, latency)
  return is_slow(latency) and at + 1 or at + math.max(1000, 3 * num(latency, 0))
end

-- How many more callbacks the workers can begin within `span` ms, with so many threads: those that
-- are free, and those that the answers of these destinations (`turns`) free meanwhile; at most
-- `most` may wait. What is due later does not count.
local function startable_of(threads, turns, span, most)
  local sum, known = 0, 0
  for _, turn in ipairs(turns) do
    if turn.latency > 0 then sum, known = sum + turn.latency, known + 1 end
  end
  local latency = known > 0 and math.max(50, sum / known) or 500
  local sending = redis.call('ZCOUNT', K.processing, '-inf', '(0')
  local waiting = redis.call('ZCOUNT', K.processing, 0, now + 100)
  return math.min(most, threads - sending + math.floor(threads * span / latency)) - waiting
end

-- How many more callbacks may be claimed for destinations that have not answered lately or hang:
-- these share a part of all places (threads or greenlets of all workers), which the ticker knows.
local function unproven_room()
  local most = redis.call('HGET', K.state, 'unproven_most')
  if not most then return math.huge end
  return math.max(0, most - redis.call('ZCOUNT', K.places, '-inf', now))
end
