-- Undo a begun attempt that got no secret: nothing was sent, and it does not count.
--
-- @keys processing rec: cb: expiry sent dead inflight: lane: ring dest: counters rate: state
-- @keys suspects trial unproven places held troubled
-- @arg id text
-- @arg token text: of the claim
-- @arg attempt text: from begin
-- @arg detail text: what the resolver did, to be shown
-- @arg secret_hold_min ms: how long it waits at first, doubling
-- @arg secret_hold_max ms: how long it waits at most
-- @arg window ms: how long before its next slot a destination is claimed from
-- @arg look_ahead ms: how far ahead the next batch is armed
-- Returns {code, arm, wait}: code 3 waits in its lane for `wait` ms, 5 cancelled meanwhile, 0: a
--   stale token or attempt, nothing changed. arm: ms until the next trigger, which this caller has
--   to send, or -1.
-- Twice: the token ends with it, so the second changes nothing.
-- Cost: O(log n).
-- One file: one transaction; the destination's hold and the callback's wait share what was read.
local r = read_record(
  id, 'token', 'attempts', 'phase', 'destination', 'is_cancelled', 'crashes', 'ends_at',
  'is_probe', 'unsigned', 'due', 'waited', 'since'
)
if r.token ~= token or r.attempts ~= attempt or r.phase ~= 'sending' then
  count_stale()
  return {0, -1, 0}
end
local destination = r.destination
local dest = K.dests .. destination

leave_processing(id, destination)
if r.crashes then LastTry.leave(id) end
clear_record(id, 'token', 'woken_at', 'is_probe', 'begun_at', 'nonce', 'waited')
if r.is_cancelled then
  end_own_hold(destination, r.is_probe)
  finish(id, destination, 'cancelled', 'cancelled')
  to_ring(destination, window)
  return {5, -1, 0}
end
if r.ends_at then end_of_life(id, r.ends_at) end

local function doubled(times)
  return math.min(secret_hold_max, secret_hold_min * 2 ^ math.min(times, 30))
end

-- A callback that fails alone waits alone. If nothing is sent in between, its destination is held,
-- so that its other callbacks are not tried in vain; attempts begun together are one failure.
local d = read_hash(dest, 'hold', 'why', 'unsigned', 'paused')
local hold, times = num(d.hold, 0), num(d.unsigned, 0)
local held = d.why == 'secret' and hold > now
local own = d.why == 'full' or r.is_probe  -- it was held for this very callback
if own then redis.call('HDEL', dest, 'hold', 'why') end
if times > 0 and not held and (own or hold < now + doubled(times - 1)) then
  local till = now + doubled(times - 1)
  redis.call('HSET', dest, 'hold', till, 'why', 'secret', hold_span(dest, now, till))
  note_hold(destination)
end
redis.call('HSET', dest, 'unsigned', held and times or times + 1, 'unsigned_at', now)
redis.call('HSETNX', dest, 'fails', 0)
redis.call('ZADD', K.troubled, 'NX', now, destination)
if not d.paused then keep_dest(dest, num(redis.call('HGET', dest, 'hold'), 0)) end
redis.call('HSET', K.state, 'unsigned', detail)

-- Its next attempt has been counted already.
local wait = doubled(num(r.unsigned, 0))
local due = now + wait
add_to_record(id, 'unsigned', 1)
set_record(
  id, 'phase', 'queued', 'due', due, 'attempts', num(r.attempts, 1) - 1, 'is_counted', 1,
  'reason', 'no_secret', 'detail', detail, 'since', due_since(r)
)
to_lane(destination, id, due, window)
local next_at = math.min(to_ring(destination, window), first_unproven())
if next_at == math.huge then return {3, -1, wait} end
return {3, arm_trigger(math.max(now, next_at), look_ahead), wait}
