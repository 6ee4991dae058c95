-- Put dead letters back into the queue: same id, new budgets, a new life.
--
-- KEYS[1] dead          dead letters
-- KEYS[2] rec:          records
-- KEYS[3] cb:           frozen requests
-- KEYS[4] lane:         lanes
-- KEYS[5] ring          destinations with something waiting
-- KEYS[6] dest:         destinations' own state
-- KEYS[7] expiry        ends of life
-- KEYS[8] counters      totals
-- KEYS[9] rate:         totals of each 10 s
-- KEYS[10] unproven     destinations with something waiting that have not answered lately
-- KEYS[11] answers:     answers, for repeats
-- ARGV[1] nonce         random, of this call
-- ARGV[2] lasts         ms that its answer is kept
-- ARGV[3] life          ms after which they expire
-- ARGV[4] window        ms ahead of its next slot that a destination is claimed from
-- ARGV[5] ids           and all after it
-- Returns how many were replayed; an id that is no dead letter is passed over.
-- Twice: the same nonce gets the same answer, and what has died again stays dead.
-- Cost: O(ids * log n).
-- @uses answer
local K = {
  dead = KEYS[1], recs = KEYS[2], cbs = KEYS[3], lanes = KEYS[4], ring = KEYS[5], dests = KEYS[6],
  expiry = KEYS[7], counters = KEYS[8], rates = KEYS[9], unproven = KEYS[10], answers = KEYS[11],
}
local nonce, life, window = ARGV[1], num(ARGV[3]), num(ARGV[4])
local before = Answer.before(K, nonce)
if before then return before end
local now = now_ms()
local replayed = 0
for i = 5, #ARGV do
  local id = ARGV[i]
  if redis.call('EXISTS', K.cbs .. id) == 1 and redis.call('ZREM', K.dead, id) == 1 then
    local rec = K.recs .. id
    redis.call('HDEL', rec, 't', 'r', 'c', 'th', 'ns', 'o', 'f', 'e')
    redis.call('HSET', rec, 's', 'queued', 'due', now)
    redis.call('ZADD', K.expiry, now + life, id)
    to_lane(K, redis.call('HGET', rec, 'd'), id, now, window)
    replayed = replayed + 1
  end
end
if replayed > 0 then count(K, 'replayed', replayed, now) end
return Answer.keep(K, nonce, ARGV[2], replayed)
