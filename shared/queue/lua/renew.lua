-- renew: a worker's heartbeat. Extends the leases it still holds and tells it which it lost and which to cancel.
-- KEYS     the three roots
-- ARGV[1]  worker   ARGV[2]  lease, ms   ARGV[3]  heartbeat (msgpack)   ARGV[4]  its ttl, ms
-- ARGV[5]  and on, rows of: id, token
-- returns  {{lost id...}, {id to cancel...}}
--@include record
--@include ending
--@include line
--@include requeue
--@include alarms
local lost, cancelled = {}, {}
local lease_end = string.format('%d', now + tonumber(ARGV[2]))
local renewed = {}
items(5, 2, function(_, id, token)
  local job = redis.call('HMGET', record(id), 'tok', 's', 'cx')
  if job[1] ~= token or job[2] ~= 'running' then -- guard: fence
    lost[#lost + 1] = id
  else
    renewed[#renewed + 1] = lease_end
    renewed[#renewed + 1] = id
    if job[3] == '1' then cancelled[#cancelled + 1] = id end
  end
end)
in_bulk(renewed, 'ZADD', ALARMS, 'XX')
redis.call('SET', root .. 'worker:' .. ARGV[1], ARGV[3], 'PX', ARGV[4])
redis.call('ZADD', root .. 'workers', now + tonumber(ARGV[4]), ARGV[1])
ring(100, 0)
write_gathered()
return {lost, cancelled}
