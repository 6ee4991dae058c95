-- Lanes, and the two rings of destinations with something waiting.
-- One file: a lane and its place in a ring change together.

-- When a destination may next be claimed from, whatever waits there (`inf` while paused); the ring
-- it belongs to, and the other one.
local function gate_of(destination, window)
  local d = read_hash(K.dests .. destination, 'paused', 'slot', 'send', 'hold', 'ok', 'broken')
  local gate = (d.paused or host_paused(destination)) and math.huge
    or math.max(num(d.slot, 0) - window, num(d.send, 0) - window, num(d.hold, 0))
  if is_unproven(d.ok, d.broken) then return gate, K.unproven, K.ring end
  return gate, K.ring, K.unproven
end

-- Put a destination into its ring for a callback that is due then. One that is there already only
-- moves forward: later arrivals do not push it back.
local function join_ring(destination, due, window)
  local gate, ring, other = gate_of(destination, window)
  redis.call('ZREM', other, destination)
  redis.call('ZADD', ring, 'LT', score(math.max(gate, due)), destination)
end

local function to_lane(destination, id, due, window)
  redis.call('ZADD', K.lanes .. destination, due, id)
  join_ring(destination, due, window)
end

-- Put a destination at its place in its ring, not before `now` (the tail of those ready). Returns
-- that place, `inf` while it is paused or has nothing waiting.
local function to_ring(destination, window)
  local first = redis.call('ZRANGE', K.lanes .. destination, 0, 0, 'WITHSCORES')
  if not first[1] then
    redis.call('ZREM', K.ring, destination)
    redis.call('ZREM', K.unproven, destination)
    return math.huge
  end
  local gate, ring, other = gate_of(destination, window)
  local place = math.max(gate, num(first[2], 0), now)
  redis.call('ZREM', other, destination)
  redis.call('ZADD', ring, score(place), destination)
  return place
end

-- When the first unproven destination may be claimed from.
local function first_unproven()
  return num(redis.call('ZRANGE', K.unproven, 0, 0, 'WITHSCORES')[2], math.huge)
end

local function leave_lane(destination, id)
  local was = redis.call('ZREM', K.lanes .. destination, id)
  if redis.call('EXISTS', K.lanes .. destination) == 0 then
    redis.call('ZREM', K.ring, destination)
    redis.call('ZREM', K.unproven, destination)
  end
  return was
end

-- How many callbacks are ready (due, their ring allows their lane now, and there are places for
-- those of unproven destinations), counted up to `limit`, and when the oldest of them was due.
local function ready_of(limit)
  local ready, oldest = 0, -1
  local function count_in(ring, destinations)
    if ready >= limit or destinations <= 0 then return end
    local due_now = redis.call('ZRANGEBYSCORE', ring, '-inf', now, 'LIMIT', 0, destinations)
    for _, destination in ipairs(due_now) do
      local lane = K.lanes .. destination
      local due = num(redis.call('ZRANGE', lane, 0, 0, 'WITHSCORES')[2], now + 1)
      if due <= now then
        if oldest < 0 or due < oldest then oldest = due end
        ready = ready + redis.call('ZCOUNT', lane, '-inf', now)
        if ready >= limit then return end
      end
    end
  end
  count_in(K.ring, limit)
  count_in(K.unproven, math.min(limit, unproven_room()))
  return math.min(ready, limit), oldest
end
