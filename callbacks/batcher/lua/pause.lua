-- Stop claims and begins: for all, for one destination, or for a host's lanes, known or not.
--
-- @keys state dest: ring inflight: processing destinations unproven held journal
-- @arg destination text: empty: all; `<host>#*`: every lane of that host; waiting ones have to be
--   withdrawn from the ring, see `withdraw`
-- @arg entry text: who and why, a JSON object, for the journal and to be shown; or empty
-- Returns how many requests are still in flight.
-- Twice: it stays paused, with the later time; the journal has it twice.
-- Cost: O(log n).
redis.call('ZREM', K.processing, '')  -- a removal first: a full Redis lets the rest pass
if destination ~= '' then
  if string.sub(destination, -2) == '#*' then
    redis.call('DEL', K.dests .. destination)  -- lanes resumed since
  else
    write_journal(entry)  -- once for a host and its lanes
  end
  redis.call(
    'HSET', K.dests .. destination, 'paused', now, 'paused_by', entry,
    hold_span(K.dests .. destination, now, END_UNKNOWN)
  )
  redis.call('PERSIST', K.dests .. destination)
  redis.call('ZADD', K.destinations, now, destination)
  note_hold(destination)
  redis.call('ZADD', K.ring, 'XX', '+inf', destination)
  redis.call('ZADD', K.unproven, 'XX', '+inf', destination)
  return redis.call('ZCOUNT', K.inflights .. destination, now, '+inf')
end
write_journal(entry)
if not redis.call('HGET', K.state, 'paused') then redis.call('HSET', K.state, 'pause_at', now) end
redis.call('HSET', K.state, 'paused', now, 'paused_by', entry, 'pause_end', END_UNKNOWN)
return redis.call('ZCOUNT', K.processing, '-inf', -now)
