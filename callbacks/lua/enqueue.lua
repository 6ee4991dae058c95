-- Take a callback in: store its frozen request and put its id into its destination's lane.
--
-- KEYS[1] cb:           frozen requests
-- KEYS[2] rec:          records
-- KEYS[3] lane:         lanes
-- KEYS[4] ring          destinations with something waiting
-- KEYS[5] dest:         destinations' own state
-- KEYS[6] expiry        ends of life
-- KEYS[7] processing    PROCESSING
-- KEYS[8] state         the schedule
-- KEYS[9] counters      totals
-- KEYS[10] rate:        totals of each 10 s
-- ARGV[1] id
-- ARGV[2] destination
-- ARGV[3] request       the packed request
-- ARGV[4] delay         ms before it is due
-- ARGV[5] life          ms after which it expires
-- ARGV[6] max_queued    most that may wait, 0: no limit
-- ARGV[7] batch_size    as many ready are a full batch
-- ARGV[8] max_delay     ms that a callback may wait for its batch
-- ARGV[9] window        ms ahead of its next slot that a destination is claimed from
-- Returns {1, 0, 0}: accepted; {1, 1, 0}: and a batch is full or overdue, trigger it;
--   {1, 2, ms}: and a check is wanted in so many ms; {0, 0, 0}: the id is known; {-1, n, 0}: full,
--   n are waiting; {-2, 0, 0}: Redis is near its memory limit.
-- Twice: the second is told {0, 0, 0} and changes nothing but `duplicates`.
-- Cost: O(log n); once in 200 ms at most also O(batch) to count what is ready.
local K = {
  cbs = KEYS[1], recs = KEYS[2], lanes = KEYS[3], ring = KEYS[4], dests = KEYS[5],
  expiry = KEYS[6], processing = KEYS[7], state = KEYS[8], counters = KEYS[9], rates = KEYS[10],
}
local id, destination, request = ARGV[1], ARGV[2], ARGV[3]
local delay, life, max_queued = num(ARGV[4]), num(ARGV[5]), num(ARGV[6])
local batch_size, max_delay, window = num(ARGV[7]), num(ARGV[8]), num(ARGV[9])

if redis.call('EXISTS', K.cbs .. id, K.recs .. id) > 0 then
  redis.pcall('HINCRBY', K.counters, 'duplicates', 1)
  return {0, 0, 0}
end
if redis.call('HEXISTS', K.state, 'full') == 1 then return {-2, 0, 0} end
local queued = redis.call('ZCARD', K.expiry) - redis.call('ZCARD', K.processing)
if max_queued > 0 and queued >= max_queued then return {-1, queued, 0} end

local now = now_ms()
local due = now + delay
redis.call('SET', K.cbs .. id, request)
redis.call('ZADD', K.expiry, now + life, id)
to_lane(K, destination, id, due, window)
count(K, 'accepted', 1, now)

local s = redis.call('HMGET', K.state, 'next_batch', 'check_at', 'peek_at', 'paused')
if s[4] or (num(s[1], 0) > now and due <= num(s[1], 0)) then return {1, 0, 0} end
if due <= now and queued + 1 >= batch_size and num(s[3], 0) <= now then
  redis.call('HSET', K.state, 'peek_at', now + 200)
  if ready_of(K, now, batch_size) >= batch_size then
    redis.call('HSET', K.state, 'next_batch', now + 200)
    return {1, 1, 0}
  end
end
local wanted = due + max_delay
if wanted <= now then
  redis.call('HSET', K.state, 'next_batch', now + 200)
  return {1, 1, 0}
end
local check_at = num(s[2], 0)
if (check_at > now and check_at <= wanted) or wanted - now > 60000 then return {1, 0, 0} end
redis.call('HSET', K.state, 'check_at', wanted)
return {1, 2, wanted - now}
