-- List the entries of the journal that no worker has reported yet, oldest first.
--
-- @keys journal state
-- @arg limit number: most entries
-- Returns a list of entries, each as its time and a JSON object. Those older than a minute when
--   none was ever reported are left out.
-- Twice: the second finds only those written since: each is reported at most once.
-- Cost: O(limit).
local told = redis.call('HGET', K.state, 'reported')
local newest = redis.call('LINDEX', K.journal, 0)
if not newest or newest == told then return {} end
local news = {}
for _, entry in ipairs(redis.call('LRANGE', K.journal, 0, limit - 1)) do
  if entry == told then break end
  if not told and num(string.match(entry, '^%d+'), 0) < now - 60000 then break end
  table.insert(news, 1, entry)
end
redis.call('HDEL', K.state, 'reported')  -- a removal first: a full Redis lets the rest pass
redis.call('HSET', K.state, 'reported', newest)
return news
