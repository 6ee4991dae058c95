-- What belongs to no noun. In every verb the loader makes two locals: `K`, the names of the keys in its
-- header, and `now`, Redis' clock in ms since 1970, the only one that decides anything.

-- Some fields of a hash by their names, false where one is not there.
local function read_hash(key, ...)
  local names, values, hash = {...}, redis.call('HMGET', key, ...), {}
  for i = 1, #names do hash[names[i]] = values[i] end
  return hash
end

-- Whether a key that was given `ttl` ms at most is there. One with more left is not: Redis' clock
-- has been set back, and would keep it for as long.
local function lasts(key, ttl)
  local left = redis.call('PTTL', key)
  return left >= 0 and left <= ttl
end

local function num(value, default)
  return value and tonumber(value) or default
end

-- Count a transition: for good, and in the bucket of its 10 s.
local function count(field, n)
  redis.call('HINCRBY', K.counters, field, n)
  local bucket = K.rates .. math.floor(now / 10000)
  if redis.call('HINCRBY', bucket, field, n) == n then redis.call('PEXPIRE', bucket, 900000) end
end

-- A command with as many arguments as Lua can hand over at once, until all are through.
local function in_steps(command, key, arguments)
  for i = 1, #arguments, 4000 do
    redis.call(command, key, unpack(arguments, i, math.min(i + 3999, #arguments)))
  end
end

-- What is stored in microseconds, as the whole milliseconds that slots count in.
local function us_to_ms(us)
  return math.ceil(us / 1000)
end

-- A reserved time, 0 where there is none. One further ahead than `most` ms was made before Redis'
-- clock was set back.
local function reserved(at, most)
  at = num(at, 0)
  return at <= now + most and at or 0
end

-- Count what is refused, where there is memory for it: refusing has to work without.
local function count_refused(field, n)
  if type(redis.pcall('HINCRBY', K.counters, field, 0)) == 'number' then count(field, n) end
end

-- A score as Redis reads it.
local function score(at)
  return at == math.huge and '+inf' or at
end
