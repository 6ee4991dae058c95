-- Take back stuck callbacks: PROCESSING -> QUEUE, or dead after too many crashes.
--
-- @keys processing rec: cb: expiry sent dead inflight: lane: ring dest: counters rate:
-- @keys suspects trial unproven places attempts
-- @arg limit number: most callbacks
-- @arg max_crashes number: crashed attempts after which a callback is dead
-- @arg spread_min ms: after a crash it is due again in crashes * (at least this
-- @arg spread_max ms: at most this)
-- @arg chance number: random in [0, 1), picks the wait together with its place in the pass
-- @arg window ms: how long before its next slot a destination is claimed from
-- @arg claim_lease ms: a claimed callback this long past its slot is taken back
-- @arg latest ms: it cannot be later than this unless the clock has jumped; -1: unknown
-- Returns {recovered, dead after crashes, cancelled}.
-- Twice: the second finds only leases that have ended since.
-- Cost: O(limit * log n).
-- One file: one pass; its three results share what was read, and most of the writes.
local done = {0, 0, 0}

-- An attempt that began and never ended: its process died, or cannot reach Redis.
local function crashed(id, r)
  local crashes = num(r.crashes, 0) + 1
  local begun_at = num(r.begun_at, now)
  local entry = string.format(
    '[%d,%d,"retry",null,"crashed",%d]', num(r.attempts, 0), begun_at, now - begun_at
  )
  set_record(
    id, 'crashes', crashes, 'reason', 'crashed', 'detail', 'the sender vanished during the request',
    'history', with_entry(r.history, entry)
  )
  local is_last = crashes >= max_crashes and not r.is_cancelled
  redis.call('HINCRBY', K.attempts, (is_last and 'dead' or 'retry') .. ' crashed none none none', 1)
  if r.is_cancelled then return 3, 'cancelled', 'cancelled' end
  if is_last then return 2, 'dead', 'crashed' end
  return 1, crashes
end

-- Requests that should have ended long ago, unless the clock has jumped; then those that never
-- began.
local stuck = {}
if latest < 0 or now <= latest then
  stuck = redis.call('ZREVRANGEBYSCORE', K.processing, '(0', -now, 'LIMIT', 0, limit)
end
local left = limit - #stuck
local idle = redis.call('ZRANGEBYSCORE', K.processing, 0, now - claim_lease, 'LIMIT', 0, left)
for _, id in ipairs(idle) do stuck[#stuck + 1] = id end

for i, id in ipairs(stuck) do
  local r = read_record(
    id, 'destination', 'phase', 'attempts', 'crashes', 'begun_at', 'is_cancelled', 'history',
    'ends_at', 'due', 'waited', 'since'
  )
  local destination, due = destination_of(id, r.destination) or '', now
  local kind, what, reason = 1, 0, nil
  leave_processing(id, destination)
  if r.crashes then LastTry.leave(id) end
  if redis.call('EXISTS', K.cbs .. id) == 0 then
    set_record(id, 'detail', 'its request is gone from Redis')
    kind, what, reason = 2, 'dead', 'crashed'
  elseif r.phase == 'sending' then
    kind, what, reason = crashed(id, r)
    if kind == 1 then
      local share = (chance + i * 0.6180339887) % 1
      due = now + math.floor(what * (spread_min + share * (spread_max - spread_min)))
    end
  end
  if kind == 1 then
    if r.ends_at then end_of_life(id, r.ends_at) end
    clear_record(
      id, 'token', 'woken_at', 'nonce', 'begun_at', 'is_probe', 'is_counted', 'waited', 'since'
    )
    set_record(id, 'phase', 'queued', 'due', due)
    if r.phase ~= 'sending' then set_record(id, 'since', due_since(r)) end
    to_lane(destination, id, due, window)
  else
    clear_record(id, 'token')  -- if its sender comes back, it is stale
    finish(id, destination, what, reason)
  end
  done[kind] = done[kind] + 1
end

-- PROCESSING is the truth: the place of a callback that left it long ago is free. One still taken
-- moves behind the others, which the next pass looks at; it counts as before.
redis.call('ZREM', K.places, '')  -- a removal first: a full Redis lets the rest pass
local old = redis.call('ZRANGEBYSCORE', K.places, '-inf', now - 60000, 'LIMIT', 0, limit)
for _, id in ipairs(old) do
  if redis.call('ZSCORE', K.processing, id) then
    redis.call('ZADD', K.places, now, id)
  else
    redis.call('ZREM', K.places, id)
  end
end
local all = done[1] + done[2] + done[3]
if all > 0 then count('recovered', all) end
return done
