-- Keep a sample in the history: in the place of its minute, and as the latest of its ten minutes.
--
-- @keys history
-- @arg minute text: the place among those of the last hour
-- @arg of_minute text: the sample, a JSON object
-- @arg ten text: the place among those of the last day
-- @arg of_ten text: the same with the greatest sizes of its ten minutes
-- Returns 1.
-- Twice: the same is kept.
-- Cost: O(1).
redis.call('HDEL', K.history, minute, ten)  -- a removal first: a full Redis lets the rest pass
redis.call('HSET', K.history, minute, of_minute, ten, of_ten)
return 1
