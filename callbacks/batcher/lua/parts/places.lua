-- Places: threads or greenlets of all workers, of which unproven destinations share a part.

-- Whether answers take so long that every request counts as overdue: else many slow destinations
-- together would hold all places.
local function is_slow(latency)
  return num(latency, 0) >= 2000
end

-- Whether requests that hang or are slow hold more places than `most`, which unproven destinations
-- share (false while no worker has reported its places).
local function are_places_short(most)
  return most and redis.call('ZCOUNT', K.places, '-inf', now) > 1.25 * most
end

-- Whether a proven destination is slow or hangs just now: its oldest request in flight is overdue.
-- This only counts while places are short: an occasional slow answer does no harm.
local function is_stalled(destination, latency)
  if is_slow(latency) then return true end
  local oldest = redis.call('ZRANGE', K.inflights .. destination, 0, 0)[1]
  return oldest and num(redis.call('ZSCORE', K.places, oldest), math.huge) <= now
end

-- When a request to a proven destination is overdue.
local function overdue_from(at, latency)
  return is_slow(latency) and at + 1 or at + math.max(1000, 3 * num(latency, 0))
end

-- How many more callbacks the workers can begin within `span` ms: one for each free thread, and for
-- each that an answer of these destinations (`turns`) frees by then, at the mean of their rates:
-- else a slow one would leave threads idle that quick ones could use. At most `most` may wait. What
-- is due later does not count, nor what is past its lease, or was due long ago: its process is dead
-- or its message lost, and where checks are rare, it stays so for as long.
local function startable_of(threads, turns, span, most)
  local sum, known = 0, 0
  for _, turn in ipairs(turns) do
    if turn.latency > 0 then sum, known = sum + 1 / math.max(10, turn.latency), known + 1 end
  end
  local answers = threads * span * (known > 0 and sum / known or 1 / 500)
  local sending = redis.call('ZCOUNT', K.processing, '-inf', '(' .. -now)
  local waiting = redis.call('ZCOUNT', K.processing, now - 10000, now + 100)
  return math.min(most, threads - sending + math.floor(answers)) - waiting
end

-- How many more callbacks may be claimed for destinations that are unproven or hang: these share a
-- part of all places, which the ticker stores.
local function unproven_room()
  local most = redis.call('HGET', K.state, 'unproven_most')
  if not most then return math.huge end
  return math.max(0, most - redis.call('ZCOUNT', K.places, '-inf', now))
end
