-- Whether callbacks may end by their age now.

-- Whether nothing ends for its age: Redis' clock has jumped ahead within the hour (see hold).
local function is_held()
  return reserved(redis.call('HGET', K.state, 'held'), 3600000) > now
end

-- The same where it is later than the caller knows that it can be: it has jumped just now.
-- `latest` -1: the caller does not know.
local function age_is_unsure(latest)
  return latest >= 0 and now > latest or is_held()
end
