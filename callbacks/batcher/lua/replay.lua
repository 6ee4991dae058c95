-- Put dead letters back into the queue: same id, new budgets, new end of life.
--
-- @keys dead rec: cb: lane: ring dest: expiry counters rate: unproven answer:
-- @arg nonce text: random, of this call
-- @arg answer_ttl ms: how long its answer is kept
-- @arg max_age ms: after which they expire
-- @arg window ms: how long before its next slot a destination is claimed from
-- @arg ids list
-- Returns how many were replayed; any id that is not a dead letter is skipped.
-- Twice: the same nonce gets the same answer, and what has died again stays dead.
-- Cost: O(ids * log n).
local before = Answer.before(nonce)
if before then return before end
local replayed = 0
for _, id in ipairs(ids) do
  if redis.call('EXISTS', K.cbs .. id) == 1 and redis.call('ZREM', K.dead, id) == 1 then
    clear_record(
      id, 'token', 'retries', 'crashes', 'throttled', 'unsigned', 'reason', 'ended_at', 'detail'
    )
    set_record(id, 'phase', 'queued', 'due', now)
    redis.call('ZADD', K.expiry, now + max_age, id)
    to_lane(read_record(id, 'destination').destination, id, now, window)
    replayed = replayed + 1
  end
end
if replayed > 0 then count('replayed', replayed) end
return Answer.keep(nonce, answer_ttl, replayed)
