-- Whether callbacks may end by their age now.

-- Whether expiry by age is held: Redis' clock has jumped ahead within the hour (see `hold`).
local function is_held()
  return reserved(redis.call('HGET', K.state, 'held'), 3600000) > now
end

-- The same, or it is later than `latest`, so the clock has jumped just now. -1: unknown.
local function age_is_unsure(latest)
  return latest >= 0 and now > latest or is_held()
end
