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
-- ARGV[1] life          ms after which they expire
-- ARGV[2] window        ms ahead of its next slot that a destination is claimed from
-- ARGV[3] ids           and all after it
-- Returns how many were replayed; an id that is no dead letter is passed over.
-- Twice: the second finds no dead letters.
-- Cost: O(ids * log n).
local K = {
  dead = KEYS[1], recs = KEYS[2], cbs = KEYS[3], lanes = KEYS[4], ring = KEYS[5], dests = KEYS[6],
  expiry = KEYS[7], counters = KEYS[8], rates = KEYS[9], unproven = KEYS[10],
}
local life, window = num(ARGV[1]), num(ARGV[2])
local now = now_ms()
local replayed = 0
for i = 3, #ARGV do
  local id = ARGV[i]
  if redis.call('EXISTS', K.cbs .. id) == 1 and redis.call('ZREM', K.dead, id) == 1 then
    local rec = K.recs .. id
    redis.call('HDEL', rec, 't', 'r', 'c', 'th', 'o', 'f', 'e')
    redis.call('HSET', rec, 's', 'queued', 'due', now)
    redis.call('ZADD', K.expiry, now + life, id)
    to_lane(K, redis.call('HGET', rec, 'd'), id, now, window)
    replayed = replayed + 1
  end
end
if replayed > 0 then count(K, 'replayed', replayed, now) end
return replayed
