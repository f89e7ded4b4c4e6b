-- positions: how many waiting jobs stand before each of these, plus one.
-- KEYS     the three roots
-- ARGV     ids
-- returns  one number an id; 0 when it is not queued
--@include record
--@include line
local out = {}
for i, id in ipairs(ARGV) do
  local class = redis.call('HGET', record(id), 'c')
  out[i] = class and position(class, id) or 0
end
return out
