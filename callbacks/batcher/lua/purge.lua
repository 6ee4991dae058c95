-- Forget dead letters for good.
--
-- KEYS[1] dead          dead letters
-- KEYS[2] rec:          records
-- KEYS[3] cb:           frozen requests
-- KEYS[4] counters      totals
-- KEYS[5] rate:         totals of each 10 s
-- KEYS[6] answers:      answers, for repeats
-- ARGV[1] nonce         random, of this call
-- ARGV[2] lasts         ms that its answer is kept
-- ARGV[3] ids           and all after it
-- Returns how many were purged; an id that is no dead letter is passed over.
-- Twice: the same nonce gets the same answer.
-- Cost: O(ids * log n).
-- @uses answer
local K = {
  dead = KEYS[1], recs = KEYS[2], cbs = KEYS[3], counters = KEYS[4], rates = KEYS[5],
  answers = KEYS[6],
}
local nonce = ARGV[1]
local before = Answer.before(K, nonce)
if before then return before end
local purged = 0
for i = 3, #ARGV do
  local id = ARGV[i]
  if redis.call('ZREM', K.dead, id) == 1 then
    redis.call('DEL', K.recs .. id, K.cbs .. id)
    purged = purged + 1
  end
end
if purged > 0 then count(K, 'purged', purged, now_ms()) end
return Answer.keep(K, nonce, ARGV[2], purged)
