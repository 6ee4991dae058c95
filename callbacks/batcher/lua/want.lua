-- Read how many slots this shard could use within the horizon; changes nothing.
--
-- @keys ring unproven lane: dest: places state
-- @arg batch_size number: more are not asked for
-- @arg horizon ms: how far ahead slots are given out
-- @arg window ms: how long before its next slot a destination is claimed from
-- @arg interval ms: between two slots of one destination, 0: none
-- @arg adaptive flag: use it as adapted, else as given
-- Returns that number. A destination counts once for each of its intervals in the horizon.
-- Cost: O(batch).
local wanted = 0
local function count_in(ring, destinations, alone)
  if wanted >= batch_size or destinations <= 0 then return end
  for _, name in ipairs(redis.call('ZRANGEBYSCORE', ring, '-inf', now, 'LIMIT', 0, destinations)) do
    local most = 1
    if not alone then
      local pace = pace_of(redis.call('HGET', K.dests .. name, 'interval'), interval, adaptive)
      most = pace > 0 and 1 + math.floor(horizon / pace) or batch_size
      most = math.min(most, redis.call('ZCOUNT', K.lanes .. name, '-inf', now + window))
    end
    wanted = wanted + most
    if wanted >= batch_size then return end
  end
end
count_in(K.ring, batch_size, false)
count_in(K.unproven, math.min(batch_size, unproven_room()), true)
return math.min(wanted, batch_size)
