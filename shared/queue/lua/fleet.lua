-- fleet: what can be told of waiting times: who works, what waits, what is under way.
-- KEYS     the three roots
-- returns  {view, see includes/view.lua; running jobs; jobs waiting of class high, normal and low; jobs ended a second or ''; heartbeats...}
--@include record
--@include line
--@include view
local out = {view(), redis.call('HGET', root .. 'counters', 'running') or 0, waiting_jobs('high'), waiting_jobs('normal'), waiting_jobs('low'),
  redis.call('HGET', LOAD, 'rate') or ''}
for _, worker in ipairs(redis.call('ZRANGE', root .. 'workers', 0, -1)) do
  local beat = redis.call('GET', root .. 'worker:' .. worker)
  if beat then out[#out + 1] = beat end
end
return out
