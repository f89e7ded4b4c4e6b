-- replay: run dead letters again, each as a new job. A dead letter stays as it is, but for the note of its successor.
-- KEYS     the three roots
-- ARGV[1]  limits, see includes/admission.lua   ARGV[2]  least time to the deadline, ms   ARGV[3]  least retention, ms
-- ARGV[4]  and on, rows of: id, new id, other model or '', payload for that model or '', delay ms, request id, line of that model or ''
-- returns  one string a row: the new job's state; '=<id>' it was replayed before, as this; '?' no such dead letter; '~' its payload is gone;
--          '#...' refused
--@include record
--@include line
--@include admission
--@include accept
local may_enter = door(ARGV[1])
local least_timeout, least_ttl = tonumber(ARGV[2]), tonumber(ARGV[3])
local out, wake = {}, false
items(4, 7, function(i, id, new_id, model, payload, delay, request_id, line)
  delay = tonumber(delay)
  local key = record(id)
  local job = redis.call('HMGET', key, 's', 'ra', 'c', 'k', 'm', 'tn', 'dl', 'ct', 'ttl', 'ev', 'md', 'l', 'co')
  local kept = redis.call('GET', payloads .. id)
  if job[1] ~= 'dead_lettered' then -- guard: only a dead letter runs again
    out[i] = '?'
  elseif job[2] then -- guard: and only once
    out[i] = '=' .. job[2]
  elseif not kept then
    out[i] = '~'
  else
    if payload == '' then payload = kept end
    local timeout = math.max(job[7] - job[8], least_timeout) + delay
    out[i] = may_enter(job[3], job[6], #payload, timeout, delay)
    if not out[i] then -- guard: what is refused is not stored
      local fields = {'ro', id, 'ttl', math.max(tonumber(job[9]) or 0, least_ttl)}
      for name, value in pairs({ev = job[10] or '', md = job[11] or '', rq = request_id, co = job[13] or ''}) do
        if value ~= '' then
          fields[#fields + 1] = name
          fields[#fields + 1] = value
        end
      end
      local of = template(job[3], job[4], model ~= '' and model or job[5], job[6], timeout, delay, line ~= '' and line or line_of(id, job[12]),
        tonumber(job[13]) or 1, {}, unpack(fields))
      accept(of, record(new_id), new_id, payload)
      out[i] = of.state
      redis.call('HSET', key, 'ra', new_id)
      count('replayed', 1)
      wake = true
    end
  end
end)
if wake then redis.call('ZADD', WAKE, 0, 'w') end
write_gathered()
return out
