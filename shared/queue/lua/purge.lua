-- purge: forget dead letters altogether: payload, record, event log, result, place in the lists.
-- KEYS     the three roots
-- ARGV     ids
-- returns  how many of them there were
--@include record
local purged = 0
for _, id in ipairs(ARGV) do
  if redis.call('ZREM', DEAD, id) == 1 then -- guard: only what is dead is forgotten
    local tenant = redis.call('HGET', record(id), 'tn')
    if tenant then redis.call('ZREM', root .. 'tenant:' .. tenant, id) end
    redis.call('DEL', payloads .. id, record(id), events(id), results .. id)
    purged = purged + 1
  end
end
count('purged', purged)
write_gathered()
return purged
