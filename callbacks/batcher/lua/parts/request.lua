-- What a frozen request says of itself: its destination, a line of JSON, and the body; see
-- `freeze.pack`. One file: all that knows how it is packed.

-- Its start, up to the environment in its body: event, time, environment.
local ORIGIN = '^[^\n]*\n[^\n]*\n{"type":"(.-)","timestamp":"([^"]*)","environment":"([^"]*)"'

-- The event (as JSON writes it), when it was made, and its environment; nil if it has none.
local function origin_of(request)
  return string.match(request, ORIGIN)
end

-- The start of a callback's request, up to all these; empty if there is none. Its headers may take
-- more than is read at first.
local function head_of(id)
  local request = redis.call('GETRANGE', K.cbs .. id, 0, 4095)
  local _, last = string.find(request, ORIGIN)
  if not last and #request == 4096 then
    request = redis.call('GET', K.cbs .. id)
    _, last = string.find(request, ORIGIN)
  end
  return string.sub(request, 1, last or 0)
end

-- Differs if a request has another URL or another body, whenever that was made: 48 bits, in hex.
local function fingerprint_of(request)
  local url, at = string.match(request, '^[^\n]*\n%["([^"]*)"[^\n]*\n()')
  local from, to = string.find(request, '","timestamp":"[^"]*"', at)
  local body = string.sub(request, at or 1)
  if from then body = string.sub(request, at, from) .. string.sub(request, to) end
  return string.sub(redis.sha1hex((url or '') .. '\n' .. body), 1, 12)
end
