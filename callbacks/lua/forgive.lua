-- Lift the mark that a URL is gone (it answered 410).
--
-- KEYS[1] gone          URLs that answered 410
-- ARGV[1] url           its SHA-1
-- Returns 1: it was marked; 0: it was not.
-- Twice: the second finds no mark.
-- Cost: O(log n).
return redis.call('ZREM', KEYS[1], ARGV[1])
