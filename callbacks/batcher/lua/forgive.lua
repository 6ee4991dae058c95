-- Lift the mark that a URL is gone (it answered 410).
--
-- @keys gone answer:
-- @arg nonce text: random, of this call
-- @arg answer_ttl ms: that its answer is kept
-- @arg url text: its SHA-1
-- Returns 1: it was marked; 0: it was not.
-- Twice: the same nonce gets the same answer.
-- Cost: O(log n).
return Answer.before(nonce) or Answer.keep(nonce, answer_ttl, redis.call('ZREM', K.gone, url))
