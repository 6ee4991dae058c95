-- Destinations taking turns in one claim, and the slots that they get.
-- K needs dests, inflights, lanes, cbs, gone. `c` is the claim: now, batch_size, concurrency,
-- set_interval, adaptive, share (how many ids to read at once).
local Turn = {}
Turn.__index = Turn

-- A destination's next slot, the time between its slots (no shorter than its answers allow at
-- its concurrency), and how many it may give. Who has not answered well yet, or is tried again
-- after faults, goes alone: one request, and nothing more until its answer.
function Turn.new(K, name, c)
  local d = redis.call('HMGET', K.dests .. name, 'slot', 'send', 'interval', 'latency', 'ok', 'broken')
  local turn = {K = K, c = c, name = name, taken = 0, ids = {}, skipped = 0, probe = d[6]}
  turn.slot = math.max(num(d[1], 0), num(d[2], 0))
  turn.interval, turn.most = pace_of(d[3], c.set_interval, c.adaptive), c.batch_size
  turn.alone = d[6] or (c.concurrency > 0 and not d[5])
  if turn.alone then turn.most = 1 end
  if c.concurrency > 0 then
    local allowed = d[5] and c.concurrency or 1
    turn.interval = math.max(turn.interval, math.ceil(num(d[4], 0) / allowed))
    redis.call('ZREMRANGEBYSCORE', K.inflights .. name, '-inf', c.now)
    if redis.call('ZCARD', K.inflights .. name) >= allowed then turn.most = 0 end
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
  while not self.ids[wanted] do
    local from = #self.ids + self.skipped
    local more = redis.call('ZRANGEBYSCORE', self.K.lanes .. self.name, '-inf', c.now, 'LIMIT', from, c.share)
    if #more == 0 then return nil end
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

