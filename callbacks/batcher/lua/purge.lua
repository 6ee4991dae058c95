-- Delete dead letters for good.
--
-- @keys dead rec: cb: counters rate: answer:
-- @arg nonce text: random, of this call
-- @arg answer_ttl ms: how long its answer is kept
-- @arg ids list
-- Returns how many were purged; any id that is not a dead letter is skipped.
-- Twice: the same nonce gets the same answer.
-- Cost: O(ids * log n).
local before = Answer.before(nonce)
if before then return before end
local purged = 0
for _, id in ipairs(ids) do
  if redis.call('ZREM', K.dead, id) == 1 then
    redis.call('DEL', K.recs .. id, K.cbs .. id)
    purged = purged + 1
  end
end
if purged > 0 then count('purged', purged) end
return Answer.keep(nonce, answer_ttl, purged)
