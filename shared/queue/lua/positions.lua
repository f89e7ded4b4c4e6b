-- positions: where jobs stand.
-- KEYS     the three roots
-- ARGV     ids
-- returns  for each id: {class, line, slot as 'host|unit|thousandths' or '', position, jobs of its class before it, jobs of its line before it}, see position
--          in includes/line.lua; {} when there is no such job
--@include record
--@include line
local out = {}
for i, id in ipairs(ARGV) do
  local class, line, tag, slot = unpack(redis.call('HMGET', record(id), 'c', 'l', 'tg', 'h'))
  out[i] = class and line and {class, line, slot or '', position(class, line, id, tag)} or {}
end
return out
