-- Read what this shard could use of the places and threads of all workers; changes nothing.
--
-- @keys ring unproven lane: places processing state
-- @arg batch_size number: count ready callbacks up to this
-- Returns {places for unproven destinations, taken or wanted; callbacks processing, or ready}.
-- Cost: O(batch).
local taken = redis.call('ZCOUNT', K.places, '-inf', now)
local ready = ready_of(batch_size)
local waiting = redis.call('ZCOUNT', K.unproven, '-inf', now)
return {taken + waiting, redis.call('ZCARD', K.processing) + ready + waiting}
