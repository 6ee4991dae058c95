-- Read how many callbacks are ready, and which holds there are, in one page; changes nothing.
--
-- @keys ring unproven held lane: dest: state
-- @arg among text: ring, unproven or held: whose page
-- @arg offset number: of the page
-- @arg limit number: most destinations
-- Returns {read, ready, held, ready since, held since, hold, count, hold, count, ...}: read:
--   destinations in this page; ready, held: callbacks that are due and not held, or held; since:
--   ms, when the first of these was due, or -1; for each kind of hold, how many destinations have
--   it.
-- Cost: O(limit * log n).
local all_paused = redis.call('HEXISTS', K.state, 'paused') == 1
local from = {ring = K.ring, unproven = K.unproven, held = K.held}
local names = redis.call('ZRANGE', from[among], offset, offset + limit - 1)
local ready, held, ready_since, held_since, holds = 0, 0, math.huge, math.huge, {}
for _, name in ipairs(names) do
  local why, lane = held_by(name), K.lanes .. name
  if why then holds[why] = (holds[why] or 0) + 1 end
  local due = num(redis.call('ZRANGE', lane, 0, 0, 'WITHSCORES')[2], math.huge)
  if due <= now and (why or all_paused) then
    held_since = math.min(held_since, due)
    held = held + redis.call('ZCOUNT', lane, '-inf', now)
  elseif due <= now then
    ready_since = math.min(ready_since, due)
    ready = ready + redis.call('ZCOUNT', lane, '-inf', now)
  end
end
local function or_none(since) return since < math.huge and since or -1 end
local answer = {#names, ready, held, or_none(ready_since), or_none(held_since)}
for why, n in pairs(holds) do answer[#answer + 1], answer[#answer + 2] = why, n end
return answer
