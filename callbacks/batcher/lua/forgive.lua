-- Remove the 410 mark of a URL.
--
-- @keys gone answer: journal
-- @arg nonce text: random, of this call
-- @arg answer_ttl ms: how long its answer is kept
-- @arg url text: its SHA-1
-- @arg entry text: for the journal, a JSON object, or empty
-- Returns 1: it was marked; 0: it was not.
-- Twice: the same nonce gets the same answer.
-- Cost: O(log n).
local before = Answer.before(nonce)
if before then return before end
local was = redis.call('ZREM', K.gone, url)
write_journal(entry)
return Answer.keep(nonce, answer_ttl, was)
