-- What belongs to no noun. The loader gives every verb two locals: `K`, the names of the keys in
-- its header, and `now`, Redis' clock in ms since 1970, the only clock that decides anything.

-- Some fields of a hash by name, false for a missing one.
local function read_hash(key, ...)
  local names, values, hash = {...}, redis.call('HMGET', key, ...), {}
  for i = 1, #names do hash[names[i]] = values[i] end
  return hash
end

-- Whether a key with a time to live of at most `ttl` ms exists. One with more left does not count:
-- Redis' clock has been set back, and would keep it that much longer.
local function lasts(key, ttl)
  local left = redis.call('PTTL', key)
  return left >= 0 and left <= ttl
end

local function num(value, default)
  return value and tonumber(value) or default
end

-- Count a transition in the totals and in the bucket of these 10 s.
local function count(field, n)
  redis.call('HINCRBY', K.counters, field, n)
  local bucket = K.rates .. math.floor(now / 10000)
  if redis.call('HINCRBY', bucket, field, n) == n then redis.call('PEXPIRE', bucket, 900000) end
end

-- Call a command with as many arguments at a time as Lua can pass.
local function in_steps(command, key, arguments)
  for i = 1, #arguments, 4000 do
    redis.call(command, key, unpack(arguments, i, math.min(i + 3999, #arguments)))
  end
end

-- Stored microseconds as the whole milliseconds that slots are counted in.
local function us_to_ms(us)
  return math.ceil(us / 1000)
end

-- A reserved time, or 0 for none. One further than `most` ms ahead is void: it was made before
-- Redis' clock was set back.
local function reserved(at, most)
  at = num(at, 0)
  return at <= now + most and at or 0
end

-- Count a refusal, if there is memory for that: refusing has to work without.
local function count_refused(field, n)
  if type(redis.pcall('HINCRBY', K.counters, field, 0)) == 'number' then count(field, n) end
end

-- A score as Redis reads it.
local function score(at)
  return at == math.huge and '+inf' or at
end
