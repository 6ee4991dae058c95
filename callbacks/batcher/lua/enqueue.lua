-- Accept callbacks: store each frozen request and put its id into its destination's lane.
--
-- @keys cb: rec: lane: ring dest: expiry processing state counters rate: unproven places at:
-- @arg max_queued number: most that may wait, 0: no limit
-- @arg batch_size number: this many ready callbacks are a full batch
-- @arg max_delay ms: the longest a callback may wait for its batch
-- @arg window ms: how long before its next slot a destination is claimed from
-- @arg look_ahead ms: the furthest ahead that the last batch may put off the next
-- @arg own_shard number: of several shards, -1: the only one
-- @arg items list: for each callback: id, destination, packed request, ms until it is due, ms until
--   it expires
-- Returns three numbers for each callback: 1, 0, 0: accepted; 1, 1, 0: and a batch is full or
--   overdue, trigger it; 1, 2, ms: and a check is wanted in that many ms; 0, 0, 0: the id is known;
--   2, 0, 0: it is known with another URL or another body;
--   -1, n, 0: full, n are waiting; -2, 0, 0: Redis is near its memory limit; -3, 0, 0: the id is
--   reserved for another shard. At the memory limit, the whole call fails and nothing is stored.
-- Twice: the second returns 0, 0, 0 (or 2, 0, 0) and changes only `duplicates`; a refusal counts as
--   `refused`.
-- Cost: O(items * log n); at most every 200 ms also O(batch) to count what is ready.
-- One file: what one item changes decides the answer to the next.
local s = read_hash(K.state, 'next_batch', 'check_at', 'peek_at', 'paused', 'full', 'earliest')
local next_batch, paused = num(s.next_batch, 0), s.paused
local check_at, peek_at = num(s.check_at, 0), num(s.peek_at, 0)
local earliest = reserved(s.earliest, look_ahead)
local queued = redis.call('ZCARD', K.expiry) - redis.call('ZCARD', K.processing)
local known, refused, taken, ends, lanes = 0, 0, {}, {}, {}

-- Whether a trigger that arrives in time is on its way. An overdue one counts until a claim answers
-- it: while no worker runs, no more are sent, and the ticker replaces a lost one. A callback
-- `short` of life cannot wait for that.
local function is_armed(due, wanted, short)
  if next_batch <= 0 or due > math.max(next_batch, now) then return false end
  if short and next_batch < now - 200 then return false end
  return next_batch <= math.max(wanted, earliest, now)
end

-- What to send for a callback that is due then: 1 a trigger, 2 a check, 0 nothing. One that expires
-- before its batch would be overdue does not wait for it.
local function wake(due, ends_at)
  if paused then return 0, 0 end
  local wanted = due + max_delay
  local short = wanted >= ends_at
  if short then wanted = due end
  if wanted > now and due <= now and queued >= batch_size and peek_at <= now then
    peek_at = now + 200
    redis.call('HSET', K.state, 'peek_at', peek_at)
    if ready_of(batch_size) >= batch_size then wanted = now end
  end
  if is_armed(due, wanted, short) then return 0, 0 end
  if wanted <= now then
    next_batch = now
    redis.call('HSET', K.state, 'next_batch', next_batch)
    return 1, 0
  end
  if (check_at > now and check_at <= wanted) or wanted - now > 60000 then return 0, 0 end
  check_at = wanted
  redis.call('HSET', K.state, 'check_at', wanted)
  return 2, wanted - now
end

local answer = {}
local function say(at, code, signal, wait)
  answer[at], answer[at + 1], answer[at + 2] = code, signal, wait
end

-- Whether the id of a request belongs to one with another URL or body. Of one that an older release
-- has ended, that is not known.
local function is_conflict(id, request)
  local stored = redis.call('GET', K.cbs .. id)
  local known = stored and fingerprint_of(stored) or read_record(id, 'fingerprint').fingerprint
  return known and known ~= fingerprint_of(request)
end

-- Whether there is a callback with this id here, and whether it is reserved for another shard. An
-- id that is new to both, as most are, takes one command.
local found
local function is_known(id)
  if own_shard < 0 then return redis.call('EXISTS', K.cbs .. id, K.recs .. id) > 0 end
  found = redis.call('EXISTS', K.cbs .. id, K.recs .. id, K.ats .. id)
  return found > 0 and redis.call('EXISTS', K.cbs .. id, K.recs .. id) > 0
end
local function is_elsewhere(id)
  return own_shard >= 0 and found > 0
    and num(reserved_for(redis.call('GET', K.ats .. id))) ~= own_shard
end

-- Store a request, and collect where its id belongs.
local function take(at, id, destination, request, delay, life)
  if is_known(id) then
    known = known + 1
    return say(at, is_conflict(id, request) and 2 or 0, 0, 0)
  end
  if is_elsewhere(id) then return say(at, -3, 0, 0) end
  if s.full or (max_queued > 0 and queued >= max_queued) then
    refused = refused + 1
    return say(at, s.full and -2 or -1, s.full and 0 or queued, 0)
  end
  redis.call('SET', K.cbs .. id, request)
  local due, lane = now + delay, lanes[destination]
  if not lane then
    lane = {first = due}
    lanes[destination] = lane
  end
  lane[#lane + 1], lane[#lane + 2] = due, id
  lane.first = math.min(lane.first, due)
  ends[#ends + 1], ends[#ends + 2] = now + life, id
  taken[#taken + 1] = {at, due, now + life}
  queued = queued + 1
end

for i = 1, #items, 5 do
  local delay, life = num(items[i + 3]), num(items[i + 4])
  take(3 * (i - 1) / 5 + 1, items[i], items[i + 1], items[i + 2], delay, life)
end
in_steps('ZADD', K.expiry, ends)
for destination, lane in pairs(lanes) do
  in_steps('ZADD', K.lanes .. destination, lane)
  join_ring(destination, lane.first, window)
end
for _, one in ipairs(taken) do say(one[1], 1, wake(one[2], one[3])) end
if #taken > 0 then count('accepted', #taken) end
if known > 0 then count_refused('duplicates', known) end
if refused > 0 then count_refused('refused', refused) end
return answer
