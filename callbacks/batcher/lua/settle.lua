-- End a begun attempt with its outcome: record, counters, destination and PROCESSING together.
--
-- @keys processing rec: cb: expiry sent dead inflight: lane: ring dest: counters rate: state
-- @keys tried failing gone suspects trial unproven places attempts held troubled failed:
-- @arg id text
-- @arg token text: of the claim
-- @arg attempt text: number that `begin` gave
-- @arg outcome text: sent, retry or dead
-- @arg reason text: empty when sent
-- @arg delay ms: until the retry
-- @arg park flag: wait for the retry in the lane, else in PROCESSING
-- @arg throttled flag: does not use up a retry
-- @arg entry text: the attempt for the history, a JSON list
-- @arg detail text: one line about the failure
-- @arg window ms: how long before its next slot a destination is claimed from
-- @arg look_ahead ms: how far ahead the next batch is armed
-- @arg effect text: on the destination: ok, alive, fault, none
-- @arg transport flag: failed in transport
-- @arg status number: HTTP status, 0: no answer
-- @arg duration ms: how long the request took
-- @arg counted text: the field that counts this attempt, see `policy/buckets.py`
-- @arg hold ms: how long the destination asked us to wait, 0: it did not
-- @arg factor number: by which its interval is multiplied, in thousandths
-- @arg interval_us us: where the interval starts
-- @arg interval_min_us us
-- @arg interval_max_us us
-- @arg failures number: consecutive faults that open the breaker, 0: never
-- @arg refused_hold number: deaths in a row by 401, 403 or 404 that open it, 0: never
-- @arg open_min ms: how long it opens at first
-- @arg open_max ms: how long it opens at most
-- @arg gone_url text: SHA-1 of a URL that is gone, or empty
-- Returns {code, arm, interval, breaker, until, failures}: code 1 sent, 2 waits in PROCESSING for
--   its retry, 3 waits in its lane, 4 dead, 5 cancelled meanwhile; 0: a stale token or attempt,
--   nothing changed. arm: ms until the next trigger, which this caller has to send, or -1.
--   interval: us, the destination's now, or -1 if it has not adapted; breaker: 1 it opened for
--   faults, 2 it closed, 3 it opened for refusals, 0 none of them; only if it opened: until: when
--   it is half-open; failures: how many in a row opened it.
-- Twice: a repeat with the same token and attempt gets the first result and changes nothing.
-- Cost: O(log n).
-- One file: one transaction, a third of it interface; its checks and writes share their locals.
local results = {sent = 1, retry = 2, queued = 3, dead = 4, cancelled = 5}

local r = read_record(
  id, 'token', 'attempts', 'phase', 'destination', 'is_cancelled', 'history', 'is_probe',
  'begun_at', 'crashes', 'ends_at'
)
if r.token ~= token or r.attempts ~= attempt or not (r.phase == 'sending' or results[r.phase]) then
  count_stale()
  return {0, -1, -1, 0}
end
if r.phase ~= 'sending' then return {results[r.phase], -1, -1, 0} end
local destination = r.destination

leave_processing(id, destination)
if r.crashes then LastTry.leave(id) end
redis.call('HINCRBY', K.attempts, counted, 1)

local feedback = Feedback.new(destination, {
  effect = effect, transport = transport, reason = reason, duration = duration,
  status = status, is_dead = outcome == 'dead', refused_hold = refused_hold,
  hold = hold, factor = factor, interval = interval_us,
  interval_min = interval_min_us, interval_max = interval_max_us, failures = failures,
  open_min = open_min, open_max = open_max, at = num(r.begun_at, now), probe = r.is_probe,
})
feedback:make()
if gone_url ~= '' then redis.call('ZADD', K.gone, now, gone_url) end

-- What becomes of the callback.
local what, history = outcome, with_entry(r.history, entry)
if outcome == 'retry' and r.is_cancelled then what = 'cancelled' end
if what ~= 'retry' then
  local why = what == 'cancelled' and what or reason
  finish(id, destination, what, why, 'history', history, 'detail', detail)
else
  clear_record(id, 'is_probe', 'woken_at', 'is_counted', 'unsigned', 'waited', 'since')
  if r.ends_at then end_of_life(id, r.ends_at) end
  count(throttled and 'throttled' or 'retried', 1)
  add_to_record(id, throttled and 'throttled' or 'retries', 1)
  set_record(
    id, 'phase', park and 'queued' or 'retry', 'due', now + delay, 'reason', reason,
    'history', history, 'detail', detail
  )
  if park then
    what = 'queued'
    to_lane(destination, id, now + delay, window)
  else
    redis.call('ZADD', K.processing, now + delay, id)
  end
end
local next_at, armed = to_ring(destination, window), -1
local frees_place = string.sub(token, -1) == 'u' or duration >= 1000
if frees_place then next_at = math.min(next_at, first_unproven()) end
if next_at < math.huge then armed = arm_trigger(math.max(now, next_at), look_ahead) end
local done = {results[what], armed, feedback.interval, feedback.breaker}
if feedback.breaker == 1 or feedback.breaker == 3 then
  done[5], done[6] = feedback.hold, feedback.breaker == 1 and feedback.fails or feedback.denied
end
return done
