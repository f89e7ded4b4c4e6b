-- New jobs of each tenant, for its list.
local listed = {}
local function list(tenant, id)
  listed[tenant] = listed[tenant] or {}
  local of = listed[tenant]
  of[#of + 1] = stamp
  of[#of + 1] = id
end
writers[#writers + 1] = function()
  for tenant, jobs in pairs(listed) do
    in_bulk(jobs, 'ZADD', root .. 'tenant:' .. tenant)
    redis.call('SADD', root .. 'tenants', tenant)
  end
end

-- put: a field of a record, unless there is nothing to say in it.
local function put(fields, name, value)
  if value ~= '' then
    fields[#fields + 1] = name
    fields[#fields + 1] = value
  end
end

-- accept: store a new job and put it in line. The caller made sure that its id is free and the door open.
-- Further arguments are record fields of its own. Returns the job's state, and its tag in line.
local function accept(id, payload, class, kind, model, tenant, timeout, delay, reply_to, keep, fingerprint, metadata, request_id, ttl, line, cost, ...)
  local key = record(id)
  local state = delay > 0 and 'scheduled' or 'queued'
  local deadline, life = string.format('%d', now + timeout), string.format('%d', timeout + ttl)
  local tag = state == 'queued' and next_tag(class, tenant, tonumber(cost)) or ''
  -- Another service's model counts under its unit's name, `service~model`: no host of ours is asked for it. The record keeps that name for the end.
  local counted = string.find(line, '~', 1, true) and string.sub(line, 3) or model
  local fields = {'s', state, 'c', class, 'k', kind, 'm', model, 'tn', tenant, 'ct', stamp, 'tg', tag, 'dl', deadline, 'ev', keep, 'fp', fingerprint,
    'ttl', ttl, 'pb', #payload, 'l', line, 'co', cost, ...}
  put(fields, 'rt', reply_to)
  put(fields, 'rq', request_id)
  put(fields, 'md', metadata)
  put(fields, 'um', counted ~= model and counted or '')
  if delay > 0 then
    local at = string.format('%d', now + delay)
    put(fields, 'at', at)
    set_alarm(id, delay < timeout and at or deadline)
  else
    join(class, line, id, tag)
    set_alarm(id, deadline)
  end
  redis.call('HSET', key, unpack(fields))
  redis.call('PEXPIRE', key, life)
  redis.call('SET', payloads .. id, payload, 'PX', life)
  list(tenant, id)
  hold(tenant, counted, 1, #payload)
  count(state, 1)
  count('accepted', 1)
  return state, tag
end
