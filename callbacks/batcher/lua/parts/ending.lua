-- How a callback ends that is not being sent.

-- End one that waits, is claimed or is to be tried again, by what its record says of `phase`,
-- `destination` and `is_probe`. Should its sender come yet, its token is stale.
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
