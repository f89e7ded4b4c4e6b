-- disown: hand back what a claim gave this worker in an answer that never arrived. Costs the jobs nothing.
-- KEYS     the three roots
-- ARGV[1]  token seed of the lost claim   ARGV[2]  lease, ms
-- returns  how many jobs went back
--@include record
--@include ending
--@include line
--@include requeue
local seed, lease = ARGV[1], tonumber(ARGV[2])
local back = 0
for _, id in ipairs(redis.call('ZRANGE', ALARMS, '-inf', now + lease, 'BYSCORE')) do
  local job = redis.call('HMGET', record(id), 's', 'tok', 'dl', 'tg', 'n', 'cx')
  if job[1] == 'running' and string.sub(job[2], 1, #seed) == seed then -- guard: only what this claim took
    local end_field, drained = 'z' .. job[5], 'drained|' .. stamp .. '|'
    if job[6] == '1' then -- guard: a cancelled job does not run again
      finish(id, 'running', 'cancelled', '@job_cancelled', '', end_field, drained)
    else
      requeue(id, 'running', job[3], job[4], end_field, drained)
    end
    back = back + 1
  end
end
write_gathered()
return back
