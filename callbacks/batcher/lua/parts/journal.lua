-- The journal of what people did: the newest first, each as its time and a JSON object.

-- Most entries kept: some 300 bytes each.
local JOURNAL_MOST = 1000

-- Write an entry, or nothing if it is empty: not a person's act.
local function write_journal(entry)
  if entry == '' then return end
  redis.call('LPUSH', K.journal, now .. ' ' .. entry)
  redis.call('LTRIM', K.journal, 0, JOURNAL_MOST - 1)
end
