-- The end of a callback that is not being sent.

-- End a callback that is queued, claimed or waiting for a retry. `record` has its `phase`,
-- `destination` and `is_probe`. If its sender still comes, its token is stale.
local function end_unsent(id, record, state, reason)
  local destination = destination_of(id, record.destination) or ''
  leave_lane(destination, id)
  leave_processing(id, destination)
  clear_record(id, 'token')
  finish(id, destination, state, reason)
  if record.phase == 'claimed' then
    end_own_hold(destination, record.is_probe)
    to_ring(destination, 0)
  end
end
