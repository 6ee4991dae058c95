-- Give a claimed callback that has not begun back to its lane, PROCESSING -> QUEUE, at no cost.
--
-- KEYS[1] processing    PROCESSING
-- KEYS[2] rec:          records
-- KEYS[3] lane:         lanes
-- KEYS[4] ring          destinations with something waiting
-- KEYS[5] dest:         destinations' own state
-- ARGV[1] id
-- ARGV[2] token         of the claim
-- ARGV[3] due           ms, not claimed again before
-- ARGV[4] full          ms for which its full destination is not claimed from, 0: not full
-- ARGV[5] horizon       ms that slots may lie ahead
-- Returns 1: released; 0: a stale token, or begun meanwhile, nothing changed.
-- Twice: the token ends with the release, so the second changes nothing.
-- Cost: O(log n).
local K = {processing = KEYS[1], recs = KEYS[2], lanes = KEYS[3], ring = KEYS[4], dests = KEYS[5]}
local id, token, due, full, horizon = ARGV[1], ARGV[2], num(ARGV[3]), num(ARGV[4]), num(ARGV[5])
local r = redis.call('HMGET', K.recs .. id, 't', 's', 'd')
if r[1] ~= token or not (r[2] == 'claimed' or r[2] == 'retry') then return 0 end

redis.call('ZREM', K.processing, id)
redis.call('HDEL', K.recs .. id, 't', 'w')
redis.call('HSET', K.recs .. id, 's', 'queued', 'due', due)
if full > 0 then
  redis.call('HSET', K.dests .. r[3], 'full', 1, 'hold', now_ms() + full)
end
to_lane(K, r[3], id, due, horizon)
if full > 0 then to_ring(K, r[3], horizon, now_ms()) end
return 1
