-- Return a claimed callback that has not begun to its lane, PROCESSING -> QUEUE, using up nothing.
--
-- @keys processing rec: lane: ring dest: state unproven places
-- @arg id text
-- @arg token text: of the claim
-- @arg due ms: when it may go, 0: now
-- @arg place number: 1: it goes first in its lane, and only its destination's gate holds it back;
--   0: it is not claimed before it is due; 2: as 1, and its unproven destination goes first in its
--   ring, too
-- @arg full ms: how long its full destination is not claimed from, 0: not full
-- @arg window ms: how long before its next slot a destination is claimed from
-- @arg look_ahead ms: how far ahead the next batch is armed
-- Returns {1, arm}: released, arm: ms until the next trigger, which this caller has to send, or -1;
--   {0, -1}: a stale token, or begun or even tried meanwhile; nothing changed.
-- Twice: the token ends with the release, so the second changes nothing.
-- Cost: O(log n).
if due == 0 then due = now end
local r = read_record(id, 'token', 'phase', 'destination', 'is_probe', 'due', 'waited', 'since')
if r.token ~= token or not (r.phase == 'claimed' or r.phase == 'retry') then return {0, -1} end
-- A release is of a callback that was due: this one is older than another worker's attempt.
if r.phase == 'retry' and num(r.due, 0) > now + 1000 then return {0, -1} end
local destination = r.destination
local dest = K.dests .. destination
if place ~= 0 then
  local first = redis.call('ZRANGE', K.lanes .. destination, 0, 0, 'WITHSCORES')
  due = math.min(due, num(first[2], due))
end

redis.call('ZREM', K.processing, id)
redis.call('ZREM', K.places, id)
clear_record(id, 'token', 'woken_at', 'is_probe', 'waited')
set_record(id, 'phase', 'queued', 'due', due, 'since', due_since(r))
if full == 0 then
  end_own_hold(destination, r.is_probe)
elseif not redis.call('HGET', dest, 'why') then
  redis.call('HSET', dest, 'hold', now + full, 'why', 'full')
end
to_lane(destination, id, due, window)
local next_at = to_ring(destination, window)
if place == 2 and next_at < math.huge then
  redis.call('ZADD', K.unproven, 'XX', 'LT', math.min(next_at, first_unproven()), destination)
end
if string.sub(token, -1) == 'u' then next_at = math.min(next_at, first_unproven()) end
if next_at == math.huge then return {1, -1} end
return {1, arm_trigger(math.max(now, next_at), look_ahead)}
