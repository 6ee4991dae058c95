-- Take the turn at something that one process at a time does once in a while.
--
-- @keys turn:
-- @arg what text
-- @arg every ms: how long the turn lasts
-- Returns 1: it is the caller's turn; 0: another has had it just now.
-- Twice: the second gets 0: it is done once less.
-- Cost: O(1).
if lasts(K.turns .. what, every) then return 0 end
redis.call('DEL', K.turns .. what)  -- a removal first: a full Redis lets the rest pass
redis.call('SET', K.turns .. what, 1, 'PX', every)
return 1
