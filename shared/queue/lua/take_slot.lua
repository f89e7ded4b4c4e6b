-- take_slot: a running job is to be served elsewhere than it was claimed for; its slot moves with it. A call that it shared stays with the others.
-- KEYS     the three roots
-- ARGV[1]  id   ARGV[2]  token   ARGV[3]  host   ARGV[4]  unit
-- ARGV[5]  most calls at once of the unit   ARGV[6]  the same for classes but high   ARGV[7]  most calls at once of the host
-- returns  1 taken, 0 no room there, -1 the job is not this worker's any more
--@include record
local key, token, host, unit = record(ARGV[1]), ARGV[2], ARGV[3], ARGV[4]
local job = redis.call('HMGET', key, 'tok', 's', 'c', 'h', 'sc')
if job[1] ~= token or job[2] ~= 'running' then return -1 end -- guard: fence
if job[4] then give_back(job[4], job[5]) end -- guard: one slot a job
local slot = host .. '|' .. unit .. '|1000'
take_call(slot)
local most = {ARGV[5], ARGV[7]}
if job[3] ~= 'high' then most[1] = ARGV[6] end -- guard: what is kept for high is not for others
local calls = redis.call('HMGET', SLOTS, host .. '|' .. unit, host)
for i, name in ipairs({host .. '|' .. unit, host}) do
  if taken[name] > 0 and (tonumber(calls[i]) or 0) + taken[name] > most[i] * 1000 then return 0 end -- guard: a host gets what it can run
end
redis.call('HSET', key, 'h', slot)
redis.call('HDEL', key, 'sc')
write_gathered()
return 1
