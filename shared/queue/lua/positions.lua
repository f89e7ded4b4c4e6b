-- positions: how many waiting jobs stand before each of these, plus one.
-- KEYS     the three roots
-- ARGV     ids
-- returns  one number an id; 0 when it is not queued
--@include record
--@include line
local out = {}
for i, id in ipairs(ARGV) do
  local job = redis.call('HMGET', record(id), 'c', 'l', 'tg')
  out[i] = job[1] and position(job[1], job[2], id, job[3]) or 0
end
return out
