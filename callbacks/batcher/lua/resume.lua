-- Resume claims and begins: for all, for one destination, or for a host's lanes.
--
-- @keys state dest: ring lane: unproven answer: journal
-- @arg nonce text: random, of this call
-- @arg answer_ttl ms: how long its answer is kept
-- @arg destination text: empty: all; `<host>#*`: every lane of that host; waiting ones have to be
--   resumed one by one
-- @arg itself flag: named itself: it resumes even while its host's lanes are paused
-- @arg window ms: how long before its next slot a destination is claimed from
-- @arg entry text: for the journal, a JSON object, or empty
-- Ends a destination's hold and closes its breaker, too.
-- Returns 1: was paused, on hold or broken; 0: was not.
-- Twice: the same nonce gets the same answer.
-- Cost: O(log n).
local before = Answer.before(nonce)
if before then return before end
redis.call('HDEL', K.state, '')  -- a removal first: a full Redis lets the rest pass
write_journal(entry)
if destination == '' then
  redis.call('HDEL', K.state, 'paused_by')
  if redis.call('HGET', K.state, 'paused') then redis.call('HSET', K.state, 'pause_end', now) end
  return Answer.keep(nonce, answer_ttl, redis.call('HDEL', K.state, 'paused'))
end
local changed = redis.call('HDEL', K.dests .. destination, 'paused', 'hold', 'why', 'broken')
redis.call(
  'HDEL', K.dests .. destination, 'paused_by', 'fails', 'opens', 'interval', 'grown', 'moved',
  'latency', 'share', 'refused', 'denied'
)
end_hold_span(K.dests .. destination, host_mark(destination))
keep_dest(K.dests .. destination, 0)
if itself and host_paused(destination) then
  changed = changed + redis.call('HSET', host_mark(destination), destination, 1)
end
to_ring(destination, window)
return Answer.keep(nonce, answer_ttl, math.min(1, changed))
