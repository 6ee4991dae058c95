-- Forget dead letters for good.
--
-- KEYS[1] dead          dead letters
-- KEYS[2] rec:          records
-- KEYS[3] cb:           frozen requests
-- KEYS[4] counters      totals
-- KEYS[5] rate:         totals of each 10 s
-- ARGV[1] ids           and all after it
-- Returns how many were purged; an id that is no dead letter is passed over.
-- Twice: the second finds no dead letters.
-- Cost: O(ids * log n).
local K = {dead = KEYS[1], recs = KEYS[2], cbs = KEYS[3], counters = KEYS[4], rates = KEYS[5]}
local purged = 0
for i = 1, #ARGV do
  local id = ARGV[i]
  if redis.call('ZREM', K.dead, id) == 1 then
    redis.call('DEL', K.recs .. id, K.cbs .. id)
    purged = purged + 1
  end
end
if purged > 0 then count(K, 'purged', purged, now_ms()) end
return purged
