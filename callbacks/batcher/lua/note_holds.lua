-- Enter those destinations in `held` that are held, and remove the others.
--
-- @keys held dest:
-- @arg names list: destinations
-- Returns how many of them are held.
-- Twice: the second changes nothing.
-- Cost: O(names * log n).
redis.call('ZREM', K.held, '')  -- a removal first: a full Redis lets the rest pass
local held = 0
for _, name in ipairs(names) do
  if held_by(name) then
    held = held + 1
    note_hold(name)
  else
    redis.call('ZREM', K.held, name)
  end
end
return held
