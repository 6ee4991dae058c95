-- What an answer says about its destination: its pace, its hold, its breaker. `a` is the answer:
-- effect, transport, reason, status, is_dead, duration, hold, factor, at (when the attempt began),
-- probe (of a half-open breaker), and the settings interval, interval_min, interval_max (us),
-- failures, refused_hold, open_min, open_max (ms).
-- One file: the methods of one table, which collect the changed fields of one hash.
local Feedback = {}
Feedback.__index = Feedback

-- Collects the changed fields and writes them together at the end.
function Feedback.new(destination, a)
  local dest = K.dests .. destination
  local d = read_hash(
    dest, 'why', 'hold', 'fails', 'opens', 'broken', 'interval', 'grown', 'latency',
    'm', 'mc', 'mp', 'paused',
    'share', 'seen', 'tried_at', 'ok', 'unsigned'
  )
  local self = {destination = destination, dest = dest, a = a, d = d, set = {}}
  self.interval, self.breaker, self.hold = num(d.interval, -1), 0, num(d.hold, 0)
  self.fails, self.denied = num(d.fails, 0), 0
  return setmetatable(self, Feedback)
end

function Feedback:put(field, value)
  self.set[#self.set + 1] = field
  self.set[#self.set + 1] = value
end

-- Attempts in this minute and the one before, and the last outcome, to be shown.
function Feedback:count()
  local d, minute = self.d, math.floor(now / 60000)
  local same = num(d.m, 0) == minute
  self.is_first_of_minute = not same
  local word = self.a.reason == '' and 'sent' or self.a.reason
  self:put('last', now .. ' ' .. word .. ' ' .. self.a.status)
  self:put('m', minute)
  self:put('mc', (same and num(d.mc, 0) or 0) + 1)
  if not same then self:put('mp', num(d.m, 0) == minute - 1 and num(d.mc, 0) or 0) end
end

-- How long it takes to answer, and which destinations that answered within the last hour failed in
-- transport within the last minute: if all of them did, it is our own network. Those that never
-- worked say nothing about it.
function Feedback:watch()
  local took = self.a.duration
  self:put('latency', math.floor(0.7 * num(self.d.latency, took) + 0.3 * took))
  if not self.a.transport then
    self:put('seen', now)
    local since = now - num(self.d.tried_at, 0)
    if since >= 0 and since < 5000 then return end
    self:put('tried_at', now)
    redis.call('ZADD', K.tried, now, self.destination)
    redis.call('ZREM', K.failing, self.destination)
    return
  end
  self:put('tried_at', 0)
  if num(self.d.seen, 0) > now - 3600000 then
    redis.call('ZADD', K.tried, now, self.destination)
    redis.call('ZADD', K.failing, now, self.destination)
  else
    redis.call('ZREM', K.tried, self.destination)  -- where its claim has put it
  end
end

-- The share of faults among its last answers, in thousandths; each answer has a weight of a tenth.
-- A destination that fails now and then, whatever its pace, is not slowed: at 2.4 % of failures
-- growth and shrinking cancel out, and above that it would end at the longest interval.
function Feedback:often()
  local share = num(self.d.share, 0)
  local after = math.floor(0.9 * share + (self.a.effect == 'fault' and 100 or 0))
  if after ~= share then self:put('share', after) end
  return share >= 150
end

function Feedback:pace()
  local a, d, often = self.a, self.d, self:often()
  local pace = num(d.interval, a.interval) * a.factor / 1000
  -- Once per burst: answers to attempts begun before the last growth do not count.
  local grows = a.factor > 1000 and a.at >= num(d.grown, 0) and (a.effect ~= 'fault' or often)
  if grows then self:put('grown', now) end
  if not grows and a.factor >= 1000 then return end
  self.interval = math.max(a.interval_min, math.min(a.interval_max, math.floor(pace)))
  self:put('interval', self.interval)
  self:put('moved', grows and a.reason or 'prompt')
end

function Feedback:note_hold(till)
  for _, value in ipairs({hold_span(self.dest, self.a.at, till)}) do
    self.set[#self.set + 1] = value
  end
  note_hold(self.destination)
end

-- `why`: 1 faults, 2 refusals.
function Feedback:open(why)
  local opens = num(self.d.opens, 0)
  self:put('fails', 0)
  redis.call('ZREM', K.failing, self.destination)
  redis.call('ZREM', K.tried, self.destination)
  self:put('tried_at', 0)
  self.breaker = why == 1 and 1 or 3
  self:put('broken', why)
  redis.call('ZADD', K.troubled, 'NX', now, self.destination)
  self:put('opens', opens + 1)
  self.hold = now + math.min(self.a.open_max, self.a.open_min * 2 ^ math.min(opens, 30))
  self:put('hold', self.hold)
  self:put('why', 'breaker')
  self:note_hold(self.hold)
end

function Feedback:close()
  self.interval, self.breaker = -1, 2
  redis.call(
    'HDEL', self.dest, 'broken', 'opens', 'hold', 'why', 'interval', 'grown', 'moved', 'share',
    'denied'
  )
  local anew = now + us_to_ms(self.a.interval)
  self:put('slot', anew)
  self:put('send', anew)
  self:put('hold_end', now)
end

function Feedback:fault()
  local a, d = self.a, self.d
  if a.reason == 'timeout' then redis.call('HDEL', self.dest, 'ok') end
  if d.broken and not a.probe then return end
  self.fails = self.fails + 1
  if d.broken or (a.failures > 0 and self.fails >= a.failures) then
    self:open(num(d.broken, 1))
  else
    self:put('fails', self.fails)
  end
end

-- Count the failure, by reason and hour. In trouble is a destination after three faults, 3xx or 4xx
-- in a row, with an open breaker, at a forbidden address, or while it asks for less. Returns
-- whether it is held for what it answers: `refused_hold` callbacks in a row died of 401, 403 or
-- 404, or if it is held for that already, this answer is no better.
function Feedback:fail()
  local a, d, status = self.a, self.d, self.a.status
  local failed = K.faileds .. math.floor(now / 3600000) .. ':' .. self.destination
  if redis.call('HINCRBY', failed, a.reason, 1) == 1 then redis.call('PEXPIRE', failed, 7200000) end
  local was, refused = read_hash(self.dest, 'refused', 'denied'), 0
  local denies = status == 401 or status == 403 or status == 404
  if status >= 300 and status < 500 and status ~= 429 then refused = num(was.refused, 0) + 1 end
  if denies then self.denied = num(was.denied, 0) + (a.is_dead and 1 or 0) end
  if refused > 0 or (status > 0 and was.refused) then
    self:put('refused', refused)
    self:put('denied', self.denied)
  end
  if status == 429 then self:put('limited', now) end
  self:put('fails', self.fails)  -- a mark, too: there is something to recover from
  local ill = d.broken or refused >= 3 or self.fails >= 2 or status == 429 or a.effect == 'none'
  if ill then redis.call('ZADD', K.troubled, 'NX', now, self.destination) end
  if d.broken then return d.broken == '2' and denies and a.refused_hold > 0 end
  return a.refused_hold > 0 and self.denied >= a.refused_hold
end

-- A 2xx ends the trouble, but not within a minute of a 429.
function Feedback:recover()
  redis.call('HDEL', self.dest, 'refused', 'denied')
  if num(redis.call('HGET', self.dest, 'limited'), 0) > now - 60000 then
    self:put('fails', 0)
    return
  end
  redis.call('HDEL', self.dest, 'fails', 'limited')
  redis.call('ZREM', K.troubled, self.destination)
end

function Feedback:make()
  local a, d, held = self.a, self.d, self.hold
  -- It was held until this answer, or because it was full.
  if d.why == 'full' or a.probe then
    redis.call('HDEL', self.dest, 'hold', 'why')
    held = 0
  end
  self:count()
  if a.effect ~= 'none' then self:watch() end
  local fine = a.effect == 'ok' or a.effect == 'alive'
  if d.unsigned then redis.call('HDEL', self.dest, 'unsigned') end  -- it has been signed
  if fine then self.fails = 0 end
  if a.effect == 'ok' and not d.ok then self:put('ok', 1) end
  local refuses = false
  if a.reason ~= '' then
    refuses = self:fail()
  elseif d.fails or d.broken then
    self:recover()
  end
  if fine and d.broken and not refuses then self:close() else self:pace() end
  if refuses and (a.probe or not d.broken) then self:open(2) end
  if a.effect == 'fault' then self:fault() end
  if a.hold > 0 and held < now + a.hold then
    self.hold = math.max(self.hold, now + a.hold)
    self:put('hold', now + a.hold)
    self:put('why', 'park')
    self:note_hold(now + a.hold)
  end
  redis.call('HSET', self.dest, unpack(self.set))
  -- Once a minute is often enough, unless it has a hold.
  if not d.paused and (self.is_first_of_minute or self.hold > now) then
    keep_dest(self.dest, self.hold)
  end
end

