-- enqueue: accept jobs, each exactly once by its id.
-- KEYS     the three roots
-- ARGV[1]  limits, see includes/admission.lua
-- ARGV[2]  and on, rows of: id, payload, class, kind, model, tenant, timeout ms, delay ms, reply_to, keep events '1' or '',
--          fingerprint, metadata (msgpack) or '', request id, retention ms, line, cost (1: an ordinary job's)
-- returns  one string a job: '<state> <now, ms>' accepted, and of a queued one its place, see position in includes/line.lua;
--          '=<state>' was there already, '!' id used by another body, '#...' refused
--@include record
--@include line
--@include admission
--@include accept
local may_enter = door(ARGV[1])
local out, queued, wake = {}, {}, false
items(2, 16, function(i, id, payload, class, kind, model, tenant, timeout, delay, reply_to, keep, fingerprint, metadata, request_id, ttl, line, cost)
  timeout, delay = tonumber(timeout), tonumber(delay)
  local known = redis.call('HMGET', record(id), 's', 'fp')
  if known[1] then -- guard: exactly once
    out[i] = known[2] == fingerprint and '=' .. known[1] or '!'
  else
    out[i] = may_enter(class, tenant, #payload, timeout, delay)
    if not out[i] then -- guard: what is refused is not stored
      local state, tag = accept(id, payload, class, kind, model, tenant, timeout, delay, reply_to, keep, fingerprint, metadata, request_id, ttl,
        line, cost)
      if state == 'queued' then queued[#queued + 1] = {i, class, line, id, tag} else out[i] = state .. ' ' .. stamp end
      wake = true
    end
  end
end)
write_lines() -- positions are told of the line with all of them in it
for _, job in ipairs(queued) do
  local i, class, line, id, tag = unpack(job)
  out[i] = string.format('queued %s %d %d %d', stamp, position(class, line, id, tag))
end
if wake then redis.call('ZADD', WAKE, 0, 'w') end
write_gathered()
return out
