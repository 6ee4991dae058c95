-- Be the one ticker of an interval, and see whether Redis still holds the same data.
--
-- KEYS[1] tick          who ticks
-- KEYS[2] state         the schedule, which keeps the epoch and when a worker ticked last
-- ARGV[1] ticker        who asks
-- ARGV[2] interval      ms
-- ARGV[3] known         the epoch that the caller remembers, or empty
-- Returns {elected, now, lost, epoch}: elected 1 you are, 0 another is; now: ms; lost 1: the
--   caller remembers another epoch, so Redis has lost its data since; epoch: names these data,
--   and begins with the ms at which they began.
-- Twice: the second is told that it is not elected, or is after a loss: one tick more.
-- Cost: O(1).
local K = {tick = KEYS[1], state = KEYS[2]}
local ticker, interval, known = ARGV[1], num(ARGV[2]), ARGV[3]
local now = now_ms()
local epoch = redis.call('HGET', K.state, 'epoch')
local lost = known ~= '' and known ~= epoch
if epoch and not lost and lasts(K.tick, interval) then return {0, now, 0, epoch} end
redis.call('DEL', K.tick)  -- a removal first: a full Redis lets the rest pass
redis.call('SET', K.tick, ticker, 'PX', interval)
redis.call('HSET', K.state, 'ticked', now)
if not epoch then
  epoch = now .. '-' .. ticker
  redis.call('HSET', K.state, 'epoch', epoch)
end
if lost then redis.call('HSET', K.state, 'lost', now) end
return {1, now, lost and 1 or 0, epoch}
