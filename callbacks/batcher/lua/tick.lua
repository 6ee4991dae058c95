-- Be the one ticker of an interval, and see whether Redis still holds the same data.
--
-- KEYS[1] tick          who ticks
-- KEYS[2] state         the schedule, which keeps the epoch and when a worker ticked last
-- KEYS[3] workers       each worker process with its places
-- ARGV[1] ticker        who asks
-- ARGV[2] interval      ms
-- ARGV[3] known         the epoch that the caller remembers, or empty
-- ARGV[4] threads       threads or greenlets of the caller
-- ARGV[5] places        how many of them destinations may take that have not answered lately
-- ARGV[6] stays         ms for which its word on that counts
-- Returns {elected, now, lost, epoch}: elected 1 you are, 0 another is; now: ms; lost 1: the
--   caller remembers another epoch, so Redis has lost its data since; epoch: names these data,
--   and begins with the ms at which they began.
-- Twice: the second is told that it is not elected, or is after a loss: one tick more.
-- Cost: O(1), and O(worker processes) for the one that is elected.
local K = {tick = KEYS[1], state = KEYS[2], workers = KEYS[3]}
local ticker, interval, known = ARGV[1], num(ARGV[2]), ARGV[3]
local threads, places, stays = num(ARGV[4]), num(ARGV[5]), num(ARGV[6])
local now = now_ms()
redis.call('HDEL', K.workers, ticker)  -- a removal first: a full Redis lets the rest pass
if places > 0 then redis.call('HSET', K.workers, ticker, threads .. ' ' .. places .. ' ' .. now + stays) end

-- All places of those whose word still counts. One that counts for longer than any word does was
-- given before Redis' clock was set back.
local function all_places()
  local sum, words = 0, redis.call('HGETALL', K.workers)
  for i = 1, #words, 2 do
    local its, until_ms = string.match(words[i + 1], '^%d+ (%d+) (%d+)$')
    if num(until_ms, 0) > now and num(until_ms, 0) <= now + stays then
      sum = sum + its
    else
      redis.call('HDEL', K.workers, words[i])
    end
  end
  return sum
end

local epoch = redis.call('HGET', K.state, 'epoch')
local lost = known ~= '' and known ~= epoch
if epoch and not lost and lasts(K.tick, interval) then return {0, now, 0, epoch} end
redis.call('DEL', K.tick)
redis.call('SET', K.tick, ticker, 'PX', interval)
local total = all_places()
if total > 0 then
  redis.call('HSET', K.state, 'unproven_most', total)
else
  redis.call('HDEL', K.state, 'unproven_most')
end
redis.call('HSET', K.state, 'ticked', now)
if not epoch then
  epoch = now .. '-' .. ticker
  redis.call('HSET', K.state, 'epoch', epoch)
end
if lost then redis.call('HSET', K.state, 'lost', now) end
return {1, now, lost and 1 or 0, epoch}
