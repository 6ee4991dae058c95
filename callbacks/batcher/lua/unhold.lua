-- Resume expiry by age after a jump of Redis' clock: an operator says so.
--
-- @keys state
-- Returns 1: it was held; 0: it was not.
-- Twice: the second returns 0.
-- Cost: O(1).
return math.min(1, redis.call('HDEL', K.state, 'held', 'jump'))
