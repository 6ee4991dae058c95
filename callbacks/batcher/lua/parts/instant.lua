-- When a send may go: both paces free, and no burst (GCRA with tolerance 0). An instant is reserved
-- before it comes, so that sends go out evenly however unevenly messages arrive. `p`: due,
-- max_wait, longest (the longest possible pace); over all and for its destination, the pace
-- (stagger, interval) and when the next instant is free (send, own_send; or false).
local Instant = {}

-- From when an instant is free. `unused`: the one that this attempt reserved and missed, which must
-- not hold back its next one.
local function free_from(p, at, pace, unused)
  if pace == 0 then return 0 end
  at = reserved(at, p.max_wait + p.longest)
  return at == unused + pace and unused or at
end

-- Returns the instant, and whether it is too far ahead to wait for. A wait for the destination
-- alone has to be shorter, because it holds up all others.
function Instant.next(p, unused)
  local free = math.max(now, p.due, free_from(p, p.send, p.stagger, unused))
  local at = math.max(free, free_from(p, p.own_send, p.interval, unused))
  return at, at - now > p.max_wait or at - free > math.max(p.stagger, 50)
end
