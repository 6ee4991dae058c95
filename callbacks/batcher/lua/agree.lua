-- Agree on the number of shards: the first process that stores something decides it for all.
--
-- @keys state counters
-- @arg shards number: of the caller
-- @arg keep flag: decide it, if nobody has; else only read
-- Returns the number that holds. Data without one is of a release that had one shard only.
-- Twice: the second gets the same.
-- Cost: O(1).
local kept = num(redis.call('HGET', K.state, 'shards'))
if kept then return kept end
if redis.call('EXISTS', K.counters) == 1 then return 1 end
if not keep then return shards end
redis.call('HDEL', K.state, 'shards')  -- a removal first: a full Redis lets the rest pass
redis.call('HSET', K.state, 'shards', shards)
return shards
