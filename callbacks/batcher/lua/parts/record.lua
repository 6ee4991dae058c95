-- A callback's record, by the names of its fields, and its end.
-- One file: all that knows how a record is stored.

-- The stored names of the fields of `rec:<id>`, short because each callback has a record.
local FIELD = {
  phase = 's', destination = 'd', token = 't', due = 'due', attempts = 'a', retries = 'r',
  crashes = 'c', throttled = 'th', begun_at = 'at', nonce = 'bn', woken_at = 'w', is_probe = 'p',
  is_counted = 'u', unsigned = 'ns', ends_at = 'end', is_cancelled = 'x', history = 'h',
  detail = 'e', reason = 'o', ended_at = 'f', event = 'y', environment = 'n', created = 'k',
  fingerprint = 'v', waited = 'q', since = 'z',
}

-- A list in which every `step`-th item is a field's name, with the stored names instead.
local function stored(list, step)
  for i = 1, #list, step do list[i] = FIELD[list[i]] end
  return unpack(list)
end

-- Some fields of a record, false for a missing one.
local function read_record(id, ...)
  local names, record = {...}, {}
  local values = redis.call('HMGET', K.recs .. id, stored({...}, 1))
  for i = 1, #names do record[names[i]] = values[i] end
  return record
end

-- Set fields: a name and a value for each.
local function set_record(id, ...)
  redis.call('HSET', K.recs .. id, stored({...}, 2))
end

local function clear_record(id, ...)
  redis.call('HDEL', K.recs .. id, stored({...}, 1))
end

local function add_to_record(id, name, n)
  redis.call('HINCRBY', K.recs .. id, FIELD[name], n)
end

local function count_stale()
  count_refused('stale', 1)
end

-- A history with one more entry; a very long one (many replays) loses its oldest.
local function with_entry(history, entry)
  if not history or history == '' then return entry end
  if #history > 6000 then
    history = string.sub(history, string.find(history, '],', 2000, true) + 2)
  end
  return history .. ',' .. entry
end

-- Since when a callback that goes back to its lane has been due: its wait goes on. `record` has
-- `since` if it went back before, `waited` of its claim, or else the `due` of its retry.
local function due_since(record)
  local claimed_due = record.waited and string.match(record.waited, '^%d+')
  return record.since or claimed_due or record.due or now
end

-- A callback's destination: from its record, or else the first line of its request.
local function destination_of(id, known)
  if known then return known end
  return string.match(redis.call('GETRANGE', K.cbs .. id, 0, 2999), '^([^\n]*)\n')
end

-- Give a callback back its end of life, which was put off while its request was in flight.
local function end_of_life(id, at)
  redis.call('ZADD', K.expiry, at, id)
  clear_record(id, 'ends_at')
end

-- Take a callback out of PROCESSING, and free what it holds while it is there.
local function leave_processing(id, destination)
  redis.call('ZREM', K.processing, id)
  redis.call('ZREM', K.inflights .. destination, id)
  redis.call('ZREM', K.places, id)
end

-- Add to some fields what a status tells of a deleted request, and what tells it from another one.
local function keep_origin(fields, request)
  local event, created, environment = origin_of(request)
  local kept = {
    'fingerprint', fingerprint_of(request), 'event', event, 'created', created,
    'environment', environment,
  }
  for i = 1, event and 8 or 2 do fields[#fields + 1] = kept[i] end
end

-- End a callback that has left PROCESSING as `state` (sent, dead or cancelled); `...`: names and
-- values of more fields. Begins with removals, which a full Redis allows, so that what frees memory
-- works when there is none.
local function finish(id, destination, state, reason, ...)
  local fields = {
    'phase', state, 'destination', destination, 'reason', reason, 'ended_at', now, ...
  }
  redis.call('ZREM', K.expiry, id)
  if state == 'dead' then
    redis.call('ZADD', K.dead, now, id)
  else
    local request = redis.call('GETDEL', K.cbs .. id)
    redis.call('ZADD', K.sent, now, id)
    if request then keep_origin(fields, request) end
  end
  clear_record(
    id, 'due', 'begun_at', 'nonce', 'woken_at', 'is_cancelled', 'is_probe', 'is_counted',
    'unsigned', 'ends_at', 'waited', 'since'
  )
  set_record(id, unpack(fields))
  count(state, 1)
end
