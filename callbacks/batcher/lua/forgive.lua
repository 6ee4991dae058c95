-- Remove the 410 mark of a URL.
--
-- @keys gone answer:
-- @arg nonce text: random, of this call
-- @arg answer_ttl ms: how long its answer is kept
-- @arg url text: its SHA-1
-- Returns 1: it was marked; 0: it was not.
-- Twice: the same nonce gets the same answer.
-- Cost: O(log n).
return Answer.before(nonce) or Answer.keep(nonce, answer_ttl, redis.call('ZREM', K.gone, url))
