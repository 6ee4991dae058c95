-- Destinations taking turns in one claim, and the slots they get. `c` is the claim: most
-- (callbacks), concurrency, set_interval, adaptive, share (how many ids to read at once), any_gone,
-- buried (how many), short (of places).
-- One file: turns, lines and the dealing change the same state.
local Turn = {}
Turn.__index = Turn

-- A destination's next slot, the time between its slots (no shorter than its answers allow at its
-- concurrency), and how many callbacks it may give. One without a 2xx yet, or tried again after
-- faults, goes alone: one request, and nothing more until its answer. `from`: the ring it was found
-- in, which is not its own if its state has expired meanwhile.
function Turn.new(name, from, c)
  local d = read_hash(
    K.dests .. name, 'slot', 'send', 'interval', 'latency', 'ok', 'broken', 'hold', 'used',
    'hold_at'
  )
  local turn = {
    c = c, name = name, taken = 0, ids = {}, dues = {}, probe = d.broken, hold_at = d.hold_at,
  }
  turn.reserved, turn.send, turn.hold = num(d.slot, 0), num(d.send, 0), num(d.hold, 0)
  turn.used, turn.from, turn.unproven = num(d.used, 0), from, is_unproven(d.ok, d.broken)
  turn.ring = turn.unproven and K.unproven or K.ring
  turn.stalled = c.short and not turn.unproven and is_stalled(name, d.latency)
  turn.needs_place = turn.unproven or turn.stalled
  turn.slot, turn.latency = math.max(turn.reserved, turn.send), num(d.latency, 0)
  turn.interval, turn.most = pace_of(d.interval, c.set_interval, c.adaptive), c.most
  turn.alone = d.broken or (c.concurrency > 0 and not d.ok)
  if turn.alone then turn.most = 1 end
  if c.concurrency > 0 then
    local allowed = d.ok and c.concurrency or 1
    turn.interval = math.max(turn.interval, math.ceil(turn.latency / allowed))
    local flying = redis.call('ZCOUNT', K.inflights .. name, '(' .. now, '+inf')
    if flying >= allowed then turn.most = 0 end
  end
  return setmetatable(turn, Turn)
end

-- Reads only the head of the request: a destination and a URL, which has no quotation mark.
function Turn:is_gone(id)
  local head = redis.call('GETRANGE', K.cbs .. id, 0, 7999)
  local url = string.match(head, '^[^\n]*\n%["([^"]*)"')
  return url and redis.call('ZSCORE', K.gone, redis.sha1hex(url))
end

-- The next callback that is due. Those before it whose URL is gone are ended, at most 100. Reads by
-- rank, as they are removed later: by score, Redis would walk to distant nodes of a long lane.
-- `later`: when the first one that is not yet due will be.
function Turn:next_id()
  local c, wanted, lane = self.c, self.taken + 1, K.lanes .. self.name
  while not self.ids[wanted] and not self.exhausted do
    local from = #self.ids
    local more = redis.call('ZRANGE', lane, from, from + c.share, 'WITHSCORES')
    self.exhausted = #more <= 2 * c.share
    for i = 1, #more, 2 do
      local id, due = more[i], num(more[i + 1])
      if due > now then
        self.exhausted, self.later = true, due
        break
      elseif c.any_gone and self:is_gone(id) then
        if c.buried >= 100 then  -- the next claim goes on
          self.exhausted = false
          return nil
        end
        c.buried = c.buried + 1
        redis.call('ZREM', lane, id)
        finish(id, self.name, 'dead', 'gone')
      else
        self.ids[#self.ids + 1], self.dues[#self.ids + 1] = id, more[i + 1]
      end
    end
  end
  return self.ids[wanted]
end

-- Write what changes in the destination's own hash, and collect the rest in `w`: for each ring,
-- `on` (score, name) and `off` (name): where it waits now, if at all; `used` (now, name) every ten
-- minutes; `asked` (now, name) if it is proven: until its answer it does not speak against our own
-- network. `held` ms: the hold of one that is full or goes alone; settle ends it.
function Turn:done(held, window, w)
  local set = {}
  local dest, slot = K.dests .. self.name, self.slot
  local waits = self:next_id()  -- reads by rank: before those taken are removed
  local renews = self.taken > 0 and now - self.used >= 600000
  if self.taken > 0 then
    redis.call('ZREMRANGEBYRANK', K.lanes .. self.name, 0, self.taken - 1)
    if self.interval == 0 then slot = self.send end
    if self.interval > 0 or slot < self.reserved then set = {'slot', slot} end
  end
  if self.taken > 0 and not self.unproven then
    w.asked[#w.asked + 1], w.asked[#w.asked + 2] = now, self.name
  end
  if renews then
    set[#set + 1], set[#set + 2] = 'used', now
    w.used[#w.used + 1], w.used[#w.used + 2] = now, self.name
  end
  if self.most == 0 or (self.alone and self.taken > 0) then
    self.hold = now + held
    for _, value in ipairs({'hold', self.hold, 'why', self.probe and 'breaker' or 'full'}) do
      set[#set + 1] = value
    end
  end
  if #set > 0 then redis.call('HSET', dest, unpack(set)) end
  if renews then keep_dest(dest, self.hold) end
  local on, off = w.on[self.ring], w.off[self.ring]
  local others = w.off[self.ring == K.ring and K.unproven or K.ring]
  others[#others + 1] = self.name
  if self.exhausted and not waits and not self.later then
    off[#off + 1] = self.name
    return
  end
  -- One that could have had a slot and got none keeps its place. One whose slot is too far ahead
  -- does not, nor one that hangs: they would take the place of others in each claim.
  local keeps = waits and self.taken == 0 and self.most > 0 and self.slot <= now + window
  if keeps and self.from == self.ring and not self.stalled then return end
  local place = math.max(slot - window, self.hold, not waits and self.later or 0, now)
  if keeps and self.stalled then place = math.max(place, now + 500) end
  on[#on + 1], on[#on + 2] = place, self.name
end

-- The turns of one kind, in order. `left`: how many callbacks they may give together.
local Line = {}
Line.__index = Line

function Line.new(left)
  return setmetatable({turns = {}, first = 1, last = 0, left = left}, Line)
end

function Line:add(turn)
  self.last = self.last + 1
  self.turns[self.last] = turn
end

-- The index of the first turn that can use this slot, or else nil and when the soonest can.
function Line:next(slot)
  local soonest
  if self.left <= 0 then return nil end
  for i = self.first, self.last do
    local own = self.turns[i].slot
    if own <= slot then return i end
    if not soonest or own < soonest then soonest = own end
  end
  return nil, soonest
end

-- Take the turn at `i`; those before it move up.
function Line:take(i)
  local turn = self.turns[i]
  for n = i, self.first + 1, -1 do self.turns[n] = self.turns[n - 1] end
  self.first = self.first + 1
  return turn
end

-- Slots are unique over all and spaced within each destination. Of the slots that both lines can
-- use, each gets every other one, so that proven destinations go on however many unproven ones
-- wait. If no turn can use the next slot, the schedule jumps ahead, but only within the window to
-- be filled until the next batch, so that a newcomer does not wait behind gaps. Returns {id, turn,
-- slot, due} for each callback, and the slot after the last.
local function deal(line, other, slot, stagger, most, limit, window_end)
  local picked = {}
  while #picked < most and slot <= limit do
    local at, soonest = line:next(slot)
    if not at then
      local second
      line, other = other, line
      at, second = line:next(slot)
      if second and (not soonest or second < soonest) then soonest = second end
    end
    if not at and (not soonest or soonest > window_end) then break end
    if not at then
      slot = soonest
    else
      local turn = line:take(at)
      local id = turn:next_id()
      if id then
        turn.taken = turn.taken + 1
        turn.slot = slot + turn.interval
        picked[#picked + 1] = {id, turn, slot, turn.dues[turn.taken]}
        slot = slot + stagger
        line.left = line.left - 1
        if turn.slot <= limit and turn.taken < turn.most then line:add(turn) end
        line, other = other, line
      end
    end
  end
  return picked, slot
end
