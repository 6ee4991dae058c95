-- Write what a person did into the journal, where the act itself took several calls.
--
-- @keys journal processing
-- @arg entry text: a JSON object
-- Returns 1.
-- Twice: it is in the journal twice.
-- Cost: O(1).
redis.call('ZREM', K.processing, '')  -- a removal first: a full Redis lets the rest pass
write_journal(entry)
return 1
