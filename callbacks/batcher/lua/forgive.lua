-- Lift the mark that a URL is gone (it answered 410).
--
-- KEYS[1] gone          URLs that answered 410
-- KEYS[2] answers:      answers, for repeats
-- ARGV[1] nonce         random, of this call
-- ARGV[2] lasts         ms that its answer is kept
-- ARGV[3] url           its SHA-1
-- Returns 1: it was marked; 0: it was not.
-- Twice: the same nonce gets the same answer.
-- Cost: O(log n).
-- @uses answer
local K = {gone = KEYS[1], answers = KEYS[2]}
local nonce, lasts, url = ARGV[1], ARGV[2], ARGV[3]
return Answer.before(K, nonce) or Answer.keep(K, nonce, lasts, redis.call('ZREM', K.gone, url))
