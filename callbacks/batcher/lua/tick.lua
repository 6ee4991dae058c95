-- Elect the one ticker of an interval, and check whether Redis still holds the same data.
--
-- @keys tick state workers identities expiry processing attempts
-- @arg ticker text: the caller
-- @arg tick_interval ms
-- @arg known text: the epoch that the caller remembers, or empty
-- @arg threads number: threads or greenlets of the caller
-- @arg places number: how many of them unproven destinations may take
-- @arg word_ttl ms: how long these two count
-- @arg running ms: for how long the caller has been running
-- @arg who text: JSON that tells who the caller is, or empty
-- @arg durations ms: how long its attempts since its last tick took
-- @arg delays ms: how long after enqueue its callbacks since its last tick were sent
-- Returns {elected, now, lost, epoch, busy, threads, places, first}: elected 1 the caller is, 0
--   another is; now: ms; lost 1: the caller remembers another epoch, so Redis has lost its data
--   since; epoch: identifies the data, and starts with the ms when they began; busy 1: a callback
--   has not ended, or ended only seconds or a tick ago, or memory is short; threads, places: of all
--   workers; first 1: the caller is the first one elected in this minute. The last three are for
--   the elected one only.
-- Twice: the second is not elected, or, after a loss, is: one extra tick; the times count twice.
-- Cost: O(1), and O(worker processes) for the one that is elected, and for a new one.
-- A removal first: a full Redis lets the rest pass.
local is_new = redis.call('HDEL', K.workers, ticker) == 0
if places > 0 then
  redis.call('HSET', K.workers, ticker, threads .. ' ' .. places .. ' ' .. now + word_ttl)
  if who ~= '' then redis.call('HSET', K.identities, ticker, now - running .. ' ' .. who) end
else
  redis.call('HDEL', K.identities, ticker)
end
if durations > 0 then redis.call('HINCRBY', K.attempts, 'duration', durations) end
if delays > 0 then redis.call('HINCRBY', K.attempts, 'delay', delays) end

-- All threads of the workers whose report still counts, and their places for unproven destinations.
-- A report that would count for longer than `word_ttl` was made before Redis' clock was set back.
local function all_places()
  local all, unproven, counted, words = 0, 0, {}, redis.call('HGETALL', K.workers)
  for i = 1, #words, 2 do
    local its, share, until_ms = string.match(words[i + 1], '^(%d+) (%d+) (%d+)$')
    if num(until_ms, 0) > now and num(until_ms, 0) <= now + word_ttl then
      all, unproven, counted[words[i]] = all + its, unproven + share, true
    else
      redis.call('HDEL', K.workers, words[i])
    end
  end
  for _, name in ipairs(redis.call('HKEYS', K.identities)) do
    if not counted[name] then redis.call('HDEL', K.identities, name) end
  end
  return all, unproven
end
local s = read_hash(
  K.state, 'epoch', 'last_batch', 'busy', 'full', 'threads', 'unproven_most', 'ticked'
)
-- Store both, so that claims know of them.
local function store_places()
  local all, unproven = all_places()
  if unproven == 0 then
    redis.call('HDEL', K.state, 'threads', 'unproven_most')
  elseif num(s.threads, 0) ~= all or num(s.unproven_most, 0) ~= unproven then
    redis.call('HSET', K.state, 'threads', all, 'unproven_most', unproven)
  end
  return all, unproven
end

local epoch = s.epoch
local lost = known ~= '' and known ~= epoch
if epoch and not lost and lasts(K.tick, tick_interval) then
  if places > 0 and is_new then store_places() end  -- the next one elected may be an hour away
  return {0, now, 0, epoch, 0, 0, 0, 0}
end
redis.call('SET', K.tick, ticker, 'PX', tick_interval)
local all, unproven = store_places()
local live = redis.call('ZCARD', K.expiry) + redis.call('ZCARD', K.processing)
local busy_at = live > 0 and now or math.max(num(s.busy, 0), num(s.last_batch, 0))
redis.call('HSET', K.state, 'ticked', now, 'busy', busy_at)
if not epoch then
  epoch = now .. '-' .. ticker
  redis.call('HSET', K.state, 'epoch', epoch)
end
if lost then redis.call('HSET', K.state, 'lost', now) end
-- For a while longer, since deaths are reported a second later, and not before the next tick.
local is_busy = s.full or now < busy_at + 5000 + 2 * tick_interval
local is_first = math.floor(num(s.ticked, 0) / 60000) ~= math.floor(now / 60000)
return {1, now, lost and 1 or 0, epoch, is_busy and 1 or 0, all, unproven, is_first and 1 or 0}
