-- Cancel a callback: it will not be sent, or not again.
--
-- @keys rec: cb: processing expiry sent dead inflight: lane: ring counters rate: unproven
-- @keys places dest: journal
-- @arg id text
-- @arg entry text: for the journal, a JSON object, or empty
-- Returns 1: cancelled, by this call or before; 2: a request is in flight, there will be none
--   after it; 0: sent or dead already; -1: unknown.
-- Twice: the second returns the same, unless the request in flight has ended.
-- Cost: O(log n).
local r = read_record(id, 'phase', 'destination', 'is_probe')
if not redis.call('ZSCORE', K.expiry, id) then
  if not r.phase then return -1 end
  return r.phase == 'cancelled' and 1 or 0
end
if r.phase == 'sending' then
  clear_record(id, 'is_cancelled')  -- a removal first: a full Redis lets the rest pass
  set_record(id, 'is_cancelled', 1)
  write_journal(entry)
  return 2
end
end_unsent(id, r, 'cancelled', 'cancelled')
write_journal(entry)
return 1
