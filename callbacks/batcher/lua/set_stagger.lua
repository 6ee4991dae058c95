-- Store the stagger; a shorter one counts from the last instant on.
--
-- @keys state
-- @arg rate text: sends per 1000 s that it aims at
-- @arg stagger_us us: between two sends
-- @arg why text: the reason
-- Returns 1: it changed; 0: it is the same.
-- Twice: the second changes nothing.
-- Cost: O(1).
local s = read_hash(K.state, 'stagger', 'slot', 'send')
local before = num(s.stagger, 0)
redis.call('HDEL', K.state, 'stagger')  -- a removal first: a full Redis lets the rest pass
redis.call('HSET', K.state, 'rate', rate, 'stagger', stagger_us, 'why', why)
-- Times set with the longer stagger lie that far ahead, and would hold everything up once more.
if stagger_us < before then
  for _, field in ipairs({'slot', 'send'}) do
    local last = math.max(now, num(s[field], 0) - us_to_ms(before))
    redis.call('HSET', K.state, field, math.min(num(s[field], 0), last + us_to_ms(stagger_us)))
  end
end
return before == stagger_us and 0 or 1
