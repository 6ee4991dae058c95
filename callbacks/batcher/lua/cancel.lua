-- Cancel a callback: it will not be sent, or not again.
--
-- KEYS[1] rec:          records
-- KEYS[2] cb:           frozen requests
-- KEYS[3] processing    PROCESSING
-- KEYS[4] expiry        ends of life
-- KEYS[5] sent          sent and cancelled records
-- KEYS[6] dead          dead letters
-- KEYS[7] inflight:     requests in flight
-- KEYS[8] lane:         lanes
-- KEYS[9] ring          destinations with something waiting
-- KEYS[10] counters     totals
-- KEYS[11] rate:        totals of each 10 s
-- KEYS[12] unproven     destinations with something waiting that have not answered lately
-- KEYS[13] places       callbacks in flight or claimed, by when they take a place of such
-- KEYS[14] dest:        destinations' own state
-- ARGV[1] id
-- Returns 1: cancelled, by this call or before; 2: a request is in flight, there will be none
--   after it; 0: sent or dead already; -1: unknown.
-- Twice: the second says the same, unless the request in flight has ended.
-- Cost: O(log n).
local K = {
  recs = KEYS[1], cbs = KEYS[2], processing = KEYS[3], expiry = KEYS[4], sent = KEYS[5],
  dead = KEYS[6], inflights = KEYS[7], lanes = KEYS[8], ring = KEYS[9], counters = KEYS[10],
  rates = KEYS[11], unproven = KEYS[12], places = KEYS[13], dests = KEYS[14],
}
local id = ARGV[1]
local r = redis.call('HMGET', K.recs .. id, 's', 'd', 'p')
if not redis.call('ZSCORE', K.expiry, id) then
  if not r[1] then return -1 end
  return r[1] == 'cancelled' and 1 or 0
end
if r[1] == 'sending' then
  redis.call('HDEL', K.recs .. id, 'x')  -- a removal first: a full Redis lets the rest pass
  redis.call('HSET', K.recs .. id, 'x', 1)
  return 2
end
local destination, now = destination_of(K, id, r[2]) or '', now_ms()
leave_lane(K, destination, id)
redis.call('HDEL', K.recs .. id, 't')
finish(K, id, destination, 'cancelled', 'cancelled', now)
if r[1] == 'claimed' then
  end_own_hold(K, destination, r[3])
  to_ring(K, destination, 0, now)
end
return 1
