-- positions: where jobs stand.
-- KEYS     the three roots
-- ARGV     ids
-- returns  for each id: {class, line, slot as 'host|unit|thousandths' or '', position, jobs of its class before it, jobs of its line before it}, see standing
--          in includes/line.lua, 0 when it does not wait; {} when there is no such job
--@include record
--@include line
local out = {}
for i, id in ipairs(ARGV) do
  local class, line, tag, slot = unpack(redis.call('HMGET', record(id), 'c', 'l', 'tg', 'h'))
  local in_line = class and line and redis.call('ZRANK', line_key(class, line), id)
  if in_line then
    out[i] = {class, line, slot or '', standing(class, line, tag, in_line)}
  else
    out[i] = class and line and {class, line, slot or '', 0, 0, 0} or {}
  end
end
return out
