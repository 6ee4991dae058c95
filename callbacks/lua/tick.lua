-- Be the one ticker of an interval.
--
-- KEYS[1] tick          who ticks
-- ARGV[1] ticker        who asks
-- ARGV[2] interval      ms
-- Returns 1: you are; 0: another is.
-- Twice: the second is told 0.
-- Cost: O(1).
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
redis.call('DEL', KEYS[1])  -- a removal first: a full Redis lets the rest pass
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
