-- positions: how many waiting jobs stand before each of these, plus one.
-- KEYS     the three roots
-- ARGV     ids
-- returns  one number an id; 0 when it is not queued
--@include record
local ahead_of = {high = 0}
ahead_of.normal = redis.call('ZCARD', ready('high'))
ahead_of.low = ahead_of.normal + redis.call('ZCARD', ready('normal'))
local out = {}
for i, id in ipairs(ARGV) do
  local class = redis.call('HGET', record(id), 'c')
  local rank = class and redis.call('ZRANK', ready(class), id)
  out[i] = rank and rank + 1 + ahead_of[class] or 0
end
return out
