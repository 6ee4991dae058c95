-- End what is past its age: dead, reason `expired`; a request in flight may end first.
--
-- KEYS[1] expiry        ends of life
-- KEYS[2] rec:          records
-- KEYS[3] cb:           frozen requests
-- KEYS[4] processing    PROCESSING
-- KEYS[5] sent          sent and cancelled records
-- KEYS[6] dead          dead letters
-- KEYS[7] inflight:     requests in flight
-- KEYS[8] lane:         lanes
-- KEYS[9] ring          destinations with something waiting
-- KEYS[10] counters     totals
-- KEYS[11] rate:        totals of each 10 s
-- KEYS[12] unproven     destinations with something waiting that have not answered lately
-- KEYS[13] places       callbacks in flight or claimed, by when they take a place of such
-- KEYS[14] state        the schedule
-- KEYS[15] dest:        destinations' own state
-- ARGV[1] limit         most callbacks
-- ARGV[2] grace         ms after which one in flight is looked at again
-- ARGV[3] latest        ms, later than which it cannot be unless the clock has jumped; -1: unknown
-- Returns how many expired: none while it is held, for Redis' clock has jumped.
-- Where that request has failed, the end of life is again what it was.
-- Twice: the second finds only what has come of age since.
-- Cost: O(limit * log n).
local K = {
  expiry = KEYS[1], recs = KEYS[2], cbs = KEYS[3], processing = KEYS[4], sent = KEYS[5],
  dead = KEYS[6], inflights = KEYS[7], lanes = KEYS[8], ring = KEYS[9], counters = KEYS[10],
  rates = KEYS[11], unproven = KEYS[12], places = KEYS[13], state = KEYS[14], dests = KEYS[15],
}
local limit, grace = ARGV[1], num(ARGV[2])
local now = now_ms()
if age_is_unsure(K, now, num(ARGV[3])) then return 0 end
local expired = 0
local old = redis.call('ZRANGEBYSCORE', K.expiry, '-inf', now, 'WITHSCORES', 'LIMIT', 0, limit)
for i = 1, #old, 2 do
  local id = old[i]
  local r = redis.call('HMGET', K.recs .. id, 's', 'd', 'p')
  if r[1] == 'sending' then
    redis.call('ZREM', K.expiry, id)  -- a removal first: a full Redis lets the rest pass
    redis.call('ZADD', K.expiry, now + grace, id)
    redis.call('HSETNX', K.recs .. id, 'end', old[i + 1])
  else
    local destination = destination_of(K, id, r[2]) or ''
    leave_lane(K, destination, id)
    redis.call('HDEL', K.recs .. id, 't')
    finish(K, id, destination, 'dead', 'expired', now)
    if r[1] == 'claimed' then
      end_own_hold(K, destination, r[3])
      to_ring(K, destination, 0, now)
    end
    expired = expired + 1
  end
end
return expired
