-- Give a claimed callback that has not begun back to its lane, PROCESSING -> QUEUE, at no cost.
--
-- KEYS[1] processing    PROCESSING
-- KEYS[2] rec:          records
-- KEYS[3] lane:         lanes
-- KEYS[4] ring          destinations with something waiting
-- KEYS[5] dest:         destinations' own state
-- KEYS[6] state         the schedule
-- KEYS[7] unproven      destinations with something waiting that have not answered lately
-- KEYS[8] places        callbacks in flight or claimed, by when they take a place of such
-- ARGV[1] id
-- ARGV[2] token         of the claim
-- ARGV[3] due           ms, when it may go, 0: now
-- ARGV[4] place         1: it keeps its place before those that wait in its lane, and its
--   destination's gate holds it back; 0: it is not claimed before it is due; 2: its destination,
--   which has not answered lately, keeps its place before the others of that kind, too
-- ARGV[5] full          ms for which its full destination is not claimed from, 0: not full
-- ARGV[6] window        ms ahead of its next slot that a destination is claimed from
-- ARGV[7] look_ahead    ms within which the next batch is armed
-- Returns {1, arm}: released, arm: ms until the next trigger, to be sent by this caller, or -1;
--   {0, -1}: a stale token, or begun or even tried meanwhile, nothing changed.
-- Twice: the token ends with the release, so the second changes nothing.
-- Cost: O(log n).
local K = {
  processing = KEYS[1], recs = KEYS[2], lanes = KEYS[3], ring = KEYS[4], dests = KEYS[5],
  state = KEYS[6], unproven = KEYS[7], places = KEYS[8],
}
local id, token, due = ARGV[1], ARGV[2], num(ARGV[3])
local full, window, look_ahead = num(ARGV[5]), num(ARGV[6]), num(ARGV[7])
local now = now_ms()
if due == 0 then due = now end
local r = redis.call('HMGET', K.recs .. id, 't', 's', 'd', 'p', 'due')
if r[1] ~= token or not (r[2] == 'claimed' or r[2] == 'retry') then return {0, -1} end
-- Whoever releases has found it due: this release is of before another's attempt.
if r[2] == 'retry' and num(r[5], 0) > now + 1000 then return {0, -1} end
local destination = r[3]
local dest = K.dests .. destination
if ARGV[4] ~= '0' then
  local first = redis.call('ZRANGE', K.lanes .. destination, 0, 0, 'WITHSCORES')
  due = math.min(due, num(first[2], due))
end

redis.call('ZREM', K.processing, id)
redis.call('ZREM', K.places, id)
redis.call('HDEL', K.recs .. id, 't', 'w', 'p')
redis.call('HSET', K.recs .. id, 's', 'queued', 'due', due)
if full == 0 then
  end_own_hold(K, destination, r[4])
elseif not redis.call('HGET', dest, 'why') then
  redis.call('HSET', dest, 'hold', now + full, 'why', 'full')
end
to_lane(K, destination, id, due, window)
local next_at = to_ring(K, destination, window, now)
if ARGV[4] == '2' and next_at < math.huge then
  redis.call('ZADD', K.unproven, 'XX', 'LT', math.min(next_at, first_unproven(K)), destination)
end
if string.sub(token, -1) == 'u' then next_at = math.min(next_at, first_unproven(K)) end
if next_at == math.huge then return {1, -1} end
return {1, arm_trigger(K, math.max(now, next_at), now, look_ahead)}
