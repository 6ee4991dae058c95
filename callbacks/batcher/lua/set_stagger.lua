-- Set the stagger that has been decided; where it is shorter, it counts from the last instant on.
--
-- KEYS[1] state         the schedule
-- ARGV[1] rate          sends per 1000 s that are wanted
-- ARGV[2] stagger       us between two sends
-- ARGV[3] why           the reason
-- Returns 1: it changed; 0: it is as it was.
-- Twice: the second changes nothing.
-- Cost: O(1).
local state, stagger, now = KEYS[1], num(ARGV[2]), now_ms()
local s = redis.call('HMGET', state, 'stagger', 'slot', 'send')
local before = num(s[1], 0)
redis.call('HDEL', state, 'stagger')  -- a removal first: a full Redis lets the rest pass
redis.call('HSET', state, 'rate', ARGV[1], 'stagger', ARGV[2], 'why', ARGV[3])
-- What was made with the longer one lies that far ahead, and would hold everybody up once more.
if stagger < before then
  for i, field in ipairs({'slot', 'send'}) do
    local last = math.max(now, num(s[i + 1], 0) - us_to_ms(before))
    redis.call('HSET', state, field, math.min(num(s[i + 1], 0), last + us_to_ms(stagger)))
  end
end
return before == stagger and 0 or 1
