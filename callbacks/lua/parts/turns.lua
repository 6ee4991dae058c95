-- Destinations taking turns in one claim, and the slots that they get.
-- K needs dests, destinations, inflights, lanes, ring, cbs, gone. `c` is the claim: now,
-- batch_size, concurrency, set_interval, adaptive, share (how many ids to read at once), any_gone,
-- buried.
local Turn = {}
Turn.__index = Turn

-- A destination's next slot, the time between its slots (no shorter than its answers allow at
-- its concurrency), and how many it may give. Who has not answered well yet, or is tried again
-- after faults, goes alone: one request, and nothing more until its answer.
function Turn.new(K, name, c)
  local d = redis.call('HMGET', K.dests .. name, 'slot', 'send', 'interval', 'latency', 'ok', 'broken', 'hold')
  local turn = {K = K, c = c, name = name, taken = 0, ids = {}, skipped = 0, probe = d[6]}
  turn.send, turn.hold = num(d[2], 0), num(d[7], 0)
  turn.slot = math.max(num(d[1], 0), turn.send)
  turn.interval, turn.most = pace_of(d[3], c.set_interval, c.adaptive), c.batch_size
  turn.alone = d[6] or (c.concurrency > 0 and not d[5])
  if turn.alone then turn.most = 1 end
  if c.concurrency > 0 then
    local allowed = d[5] and c.concurrency or 1
    turn.interval = math.max(turn.interval, math.ceil(num(d[4], 0) / allowed))
    if redis.call('ZCOUNT', K.inflights .. name, '(' .. c.now, '+inf') >= allowed then turn.most = 0 end
  end
  return setmetatable(turn, Turn)
end

function Turn:is_gone(id)
  local request = redis.call('GET', self.K.cbs .. id)
  local line = request and string.match(request, '^[^\n]*\n([^\n]*)\n')
  return line and redis.call('ZSCORE', self.K.gone, redis.sha1hex(cjson.decode(line)[1]))
end

-- The next callback that is due, past those whose URL is gone: these are buried, 500 at most.
function Turn:next_id()
  local c, wanted = self.c, self.taken + 1
  while not self.ids[wanted] and not self.exhausted do
    local from = #self.ids + self.skipped
    local more = redis.call('ZRANGEBYSCORE', self.K.lanes .. self.name, '-inf', c.now, 'LIMIT', from, c.share + 1)
    self.exhausted = #more <= c.share
    for _, id in ipairs(more) do
      if c.any_gone and self:is_gone(id) then
        if #c.buried >= 500 then return nil end  -- the next claim goes on
        c.buried[#c.buried + 1] = {id, self.name}
        self.skipped = self.skipped + 1
      else
        self.ids[#self.ids + 1] = id
      end
    end
  end
  return self.ids[wanted]
end

-- Write what the claim has changed, and give the destination its place in the ring anew. `held`
-- ms: nothing more until the one request that says how it is going; settle lifts that.
function Turn:done(held, window)
  local K, now, set = self.K, self.c.now, {}
  local slot = self.slot
  if self.taken > 0 then
    if self.interval == 0 then slot = self.send end
    set = {'slot', slot}
    redis.call('ZADD', K.destinations, now, self.name)
  end
  if self.most == 0 or (self.alone and self.taken > 0) then
    self.hold = now + held
    for _, value in ipairs({'hold', self.hold, 'why', self.probe and 'breaker' or 'full'}) do
      set[#set + 1] = value
    end
  end
  if #set > 0 then
    redis.call('HSET', K.dests .. self.name, unpack(set))
    redis.call('PEXPIRE', K.dests .. self.name, 86400000)
  end
  -- One that could have had a slot and got none keeps its place. One whose slot is too far ahead
  -- must not: it would take the place of others in each claim.
  local waits = self:next_id()
  if self.taken == 0 and self.skipped == 0 and self.most > 0 and self.slot <= now + window and waits then
    return
  end
  if not waits then return to_ring(K, self.name, window, now) end
  redis.call('ZADD', K.ring, math.max(slot - window, self.hold, now), self.name)
end

-- Slots are unique over all and spaced within each destination. Where no destination can use
-- the next slot, the schedule jumps ahead, but only within the window that has to be filled
-- until the next batch comes, so that a newcomer does not wait behind holes.
-- Returns {id, turn, slot} of each callback, and the slot after the last.
local function deal(turns, slot, stagger, most, limit, window_end)
  local picked = {}
  while #picked < most and #turns > 0 and slot <= limit do
    local at, soonest = nil, nil
    for i, turn in ipairs(turns) do
      if turn.slot <= slot then at = i break end
      if not soonest or turn.slot < soonest then soonest = turn.slot end
    end
    if not at and soonest > window_end then break end
    if not at then
      slot = soonest
    else
      local turn = table.remove(turns, at)
      local id = turn:next_id()
      if id then
        turn.taken = turn.taken + 1
        turn.slot = slot + turn.interval
        picked[#picked + 1] = {id, turn, slot}
        slot = slot + stagger
        if turn.slot <= limit and turn.taken < turn.most then turns[#turns + 1] = turn end
      end
    end
  end
  return picked, slot
end

