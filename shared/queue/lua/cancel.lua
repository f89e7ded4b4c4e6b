-- cancel: a waiting job ends at once; a running one is flagged, and its worker told.
-- KEYS     the three roots
-- ARGV[1]  id
-- returns  the job's state now, '' when unknown
--@include record
--@include ending
--@include line
local id = ARGV[1]
local key = record(id)
local job = redis.call('HMGET', key, 's', 'c', 'w', 'l')
local state = job[1]
if not state then return '' end
if state == 'queued' or state == 'scheduled' then
  if state == 'queued' then leave(job[2], job[4], id) end
  finish(id, state, 'cancelled', '@job_cancelled', '')
  state = 'cancelled'
elseif state == 'running' then
  redis.call('HSET', key, 'cx', '1') -- the flag outlives a lost message: renew and publish report it too
  redis.call('PUBLISH', root .. 'ctl', 'cancel ' .. job[3] .. ' ' .. id)
end
write_gathered()
return state
