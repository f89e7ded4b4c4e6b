-- take_slot: a running job is to be served elsewhere than it was claimed for; its slot moves with it.
-- KEYS     the three roots
-- ARGV[1]  id   ARGV[2]  token   ARGV[3]  host   ARGV[4]  unit   ARGV[5]  most calls at once of the unit   ARGV[6]  the same of the host
-- returns  1 taken, 0 no room there, -1 the job is not this worker's any more
--@include record
local key, token, host, unit = record(ARGV[1]), ARGV[2], ARGV[3], ARGV[4]
local job = redis.call('HMGET', key, 'tok', 's', 'h')
if job[1] ~= token or job[2] ~= 'running' then return -1 end -- guard: fence
if job[3] then use(job[3], -1) end -- guard: one slot a job
use(host .. '|' .. unit .. '|1000', 1)
local calls = redis.call('HMGET', SLOTS, host .. '|' .. unit, host)
for i, name in ipairs({host .. '|' .. unit, host}) do
  if taken[name] > 0 and (tonumber(calls[i]) or 0) + taken[name] > ARGV[4 + i] * 1000 then return 0 end -- guard: a host gets what it can run
end
redis.call('HSET', key, 'h', host .. '|' .. unit .. '|1000')
write_counts()
return 1
