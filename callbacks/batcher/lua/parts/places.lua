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

-- How many more callbacks may be claimed for destinations that are unproven or hang: these share a
-- part of all places, which the ticker stores.
local function unproven_room()
  local most = redis.call('HGET', K.state, 'unproven_most')
  if not most then return math.huge end
  return math.max(0, most - redis.call('ZCOUNT', K.places, '-inf', now))
end
